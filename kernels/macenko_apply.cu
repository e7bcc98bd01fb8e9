// Applying stain matrices on the GPU: macenko_reference.py's step 7, each byte read once and written once.
//
// A warp takes strips of 512 pixels, 1,536 bytes: three 16-byte loads a lane side by side, a turn in shared
// memory so that every lane holds 16 whole pixels, and back the same way. Both turns are free of bank
// conflicts (lanes 48 bytes apart: eight of them cover all banks).
//
//   floor          393,216 bytes of a 256 px tile at 4.3 TB/s: 91 ns
//   instructions   about 33 a pixel: 17,000 cycles of an SM; the special-function unit (3 exponentials a pixel, 16
//                  a cycle) 12,300; the table (3 loads a pixel, at most 2 lanes to a bank) 12,300 at worst.
//                  Side by side, 17,000 cycles on 132 SMs at 1.75 GHz are 74 ns a tile: under the floor
//   occupancy      28 KiB of shared memory a block of 256 threads: 7 blocks an SM, 1,792 of 2,048 threads

#include "grey.cuh"

#define WARPS 8
#define THREADS (32 * WARPS)
#define COPIES 16                // of the table: a copy for each lane of a half warp
#define STRIP 512                // pixels of a warp at a time
#define STRIPS 4                 // of each warp
#define BLOCK_PIXELS (WARPS * STRIPS * STRIP)

extern __shared__ __align__(16) unsigned char dynamic_shared[];

__device__ __forceinline__ float logarithm(unsigned level) {
    return ((const float*)dynamic_shared)[level * COPIES + threadIdx.x % COPIES];
}

// Four pixels in three words
__device__ __forceinline__ void transform4(const float m[9], const float scale[3], unsigned word[3]) {
    unsigned a = word[0], b = word[1], c = word[2], p[3], q[3], u[3], v[3];
    transform(m, scale, logarithm(a & 255), logarithm(a >> 8 & 255), logarithm(a >> 16 & 255), p);
    transform(m, scale, logarithm(a >> 24), logarithm(b & 255), logarithm(b >> 8 & 255), q);
    transform(m, scale, logarithm(b >> 16 & 255), logarithm(b >> 24), logarithm(c & 255), u);
    transform(m, scale, logarithm(c >> 8 & 255), logarithm(c >> 16 & 255), logarithm(c >> 24), v);
    word[0] = p[0] | p[1] << 8 | p[2] << 16 | q[0] << 24;
    word[1] = q[1] | q[2] << 8 | u[0] << 16 | u[1] << 24;
    word[2] = u[2] | v[0] << 8 | v[1] << 16 | v[2] << 24;
}

// Pixels that fill no strip, or lie at odd addresses
__device__ void one_by_one(const byte* from, byte* to, int pixels, const float m[9], const float scale[3],
                           bool identity) {
    for (int i = threadIdx.x % 32; i < pixels; i += 32) {
        unsigned out[3] = {from[3 * i], from[3 * i + 1], from[3 * i + 2]};
        if (!identity) transform(m, scale, logarithm(out[0]), logarithm(out[1]), logarithm(out[2]), out);
        for (int k = 0; k < 3; k++) to[3 * i + k] = (byte)out[k];
    }
}

// Blocks b * per_tile to (b + 1) * per_tile - 1 take tile b. inputs, outputs: addresses of the tiles; sizes: their pixels;
// matrices (n, 3, 4), the shift last; logs (257,): log2 of (I + 1) / I0 for each grey level, and of I0.
extern "C" __global__ void __launch_bounds__(THREADS)
macenko_apply(const address* inputs, const address* outputs, const int* sizes, int per_tile, const double* matrices,
              const float* logs) {
    const int n = blockIdx.x / per_tile, first = blockIdx.x % per_tile * BLOCK_PIXELS;
    const int pixels = sizes[n];
    if (first >= pixels) return;  // the tiles of a batch may differ in size

    float* table = (float*)dynamic_shared;
    for (int i = threadIdx.x; i < 256 * COPIES; i += THREADS) table[i] = logs[i / COPIES];
    const double* matrix = matrices + 12ll * n;
    float m[9], scale[3];
    bool identity = true;  // exactly: then the tile is copied
    for (int k = 0; k < 3; k++) {
        for (int j = 0; j < 3; j++) m[3 * k + j] = (float)matrix[4 * k + j];
        scale[k] = logs[256] - (float)(matrix[4 * k + 3] * 1.4426950408889634);  // to base 2
        for (int j = 0; j < 4; j++) identity &= matrix[4 * k + j] == (j == k ? 1.0 : 0.0);
    }
    __syncthreads();

    const int lane = threadIdx.x % 32;
    uint4* turn = (uint4*)(dynamic_shared + 4 * 256 * COPIES) + threadIdx.x / 32 * (STRIP * 3 / 16);
    for (int k = 0; k < STRIPS; k++) {
        const int start = first + (k * WARPS + threadIdx.x / 32) * STRIP;
        if (start >= pixels) break;
        const byte* from = (const byte*)inputs[n] + 3ll * start;
        byte* to = (byte*)outputs[n] + 3ll * start;
        if (pixels - start < STRIP || (((address)from | (address)to) & 15)) {
            one_by_one(from, to, min(pixels - start, STRIP), m, scale, identity);
            continue;
        }
        uint4 part[3];
        for (int i = 0; i < 3; i++) part[i] = ((const uint4*)from)[lane + 32 * i];
        if (!identity) {
            for (int i = 0; i < 3; i++) turn[lane + 32 * i] = part[i];
            __syncwarp();
            unsigned word[12];
            for (int i = 0; i < 3; i++) {
                uint4 four = turn[3 * lane + i];
                word[4 * i] = four.x, word[4 * i + 1] = four.y, word[4 * i + 2] = four.z, word[4 * i + 3] = four.w;
            }
            for (int i = 0; i < 4; i++) transform4(m, scale, word + 3 * i);
            for (int i = 0; i < 3; i++)
                turn[3 * lane + i] = make_uint4(word[4 * i], word[4 * i + 1], word[4 * i + 2], word[4 * i + 3]);
            __syncwarp();
            for (int i = 0; i < 3; i++) part[i] = turn[lane + 32 * i];
            __syncwarp();
        }
        for (int i = 0; i < 3; i++) ((uint4*)to)[lane + 32 * i] = part[i];
    }
}
