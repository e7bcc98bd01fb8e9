// Colour jitter of views on the GPU: colour_reference.py's steps. A block takes a view: it sums its channels,
// and reads it again from the cache. A batch has as many blocks as views, so that nothing is summed in an order
// that may change: sums are of integers.

typedef unsigned char byte;
typedef unsigned long long address;

#define THREADS 1024
#define SETTINGS 14

__device__ __forceinline__ float clipped(float x, float low, float high) { return fminf(fmaxf(x, low), high); }

// How far a channel lies below the value, as a share of the chroma; place: on the circle of six sectors
__device__ __forceinline__ float ramp(float place) {
    place -= 6.0f * floorf(place / 6.0f);
    return clipped(fminf(place, 4.0f - place), 0.0f, 1.0f);
}

// Step 2
__device__ __forceinline__ void turn(float sixths, float x[3]) {
    const float value = fmaxf(x[0], fmaxf(x[1], x[2])), chroma = value - fminf(x[0], fminf(x[1], x[2]));
    const float inverse = 1.0f / (chroma > 0.0f ? chroma : 1.0f);
    float sector = value == x[0] ? (x[1] - x[2]) * inverse
                                 : (value == x[1] ? 2.0f + (x[2] - x[0]) * inverse : 4.0f + (x[0] - x[1]) * inverse);
    sector += sixths;
    for (int k = 0; k < 3; k++) x[k] = value - chroma * ramp(sector + (float)(5 - 2 * k));
}

// inputs, outputs: addresses of the views; pixels: of each; settings (n, SETTINGS)
extern "C" __global__ void __launch_bounds__(THREADS)
colour(const address* inputs, const address* outputs, int pixels, const float* settings) {
    __shared__ unsigned long long sums[3];
    const byte* from = (const byte*)inputs[blockIdx.x];
    byte* to = (byte*)outputs[blockIdx.x];
    float m[SETTINGS];
    bool unchanged = true;
    for (int k = 0; k < SETTINGS; k++) {
        m[k] = settings[SETTINGS * blockIdx.x + k];
        unchanged &= m[k] == (k < 9 && k % 4 == 0 ? 1.0f : 0.0f);
    }
    if (unchanged) {
        for (int i = threadIdx.x; i < 3 * pixels; i += blockDim.x) to[i] = from[i];
        return;
    }
    if (threadIdx.x < 3) sums[threadIdx.x] = 0;
    __syncthreads();
    unsigned long long own[3] = {0, 0, 0};
    for (int i = threadIdx.x; i < pixels; i += blockDim.x)
        for (int k = 0; k < 3; k++) own[k] += from[3 * i + k];
    for (int k = 0; k < 3; k++) atomicAdd(&sums[k], own[k]);
    __syncthreads();
    float shift = 0.0f;
    for (int k = 0; k < 3; k++) shift += m[9 + k] * (float)((double)sums[k] / pixels);
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        const float r = from[3 * i], g = from[3 * i + 1], b = from[3 * i + 2];
        float x[3];
        for (int k = 0; k < 3; k++)
            x[k] = clipped(m[3 * k] * r + m[3 * k + 1] * g + m[3 * k + 2] * b + shift, 0.0f, 255.0f);
        if (m[12] != 0.0f) turn(6.0f * m[12], x);
        if (m[13] != 0.0f) x[0] = x[1] = x[2] = 0.299f * x[0] + 0.587f * x[1] + 0.114f * x[2];
        for (int k = 0; k < 3; k++) to[3 * i + k] = (byte)(x[k] + 0.5f);
    }
}
