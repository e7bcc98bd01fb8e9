// Optical density back to grey levels: step 7 of macenko_reference.py, for the kernels that need it.

typedef unsigned char byte;
typedef unsigned long long address;

__device__ __forceinline__ float exponential2(float x) {
#ifdef CUDA_SHIM
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// 2^x, clipped to 255 and truncated. NaN becomes 255. Adding 2^23 towards zero leaves the whole part in the
// low bits, where a conversion would take four times as long.
__device__ __forceinline__ unsigned grey(float x) {
    return __float_as_uint(__fadd_rz(fminf(exponential2(x), 255.0f), 8388608.0f)) & 255u;
}

// Step 7 on one pixel: logarithms to base 2 of (I + 1) / I0, which a matrix in optical density takes as they are;
// scale: of each channel, the logarithm of I0 less the shift
__device__ __forceinline__ void transform(const float m[9], const float scale[3], float x, float y, float z, unsigned out[3]) {
    for (int k = 0; k < 3; k++) out[k] = grey(m[3 * k] * x + (m[3 * k + 1] * y + (m[3 * k + 2] * z + scale[k])));
}
