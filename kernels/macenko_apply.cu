// Applying stain matrices on the GPU: macenko_reference.py's step 7, each byte read once and written once.
//
// A warp takes strips of 512 pixels, 1,536 bytes: three 16-byte loads a lane side by side, a turn in shared
// memory so that every lane holds 16 whole pixels, and back the same way. Both turns are free of bank
// conflicts (lanes 48 bytes apart: eight of them cover all banks), and so is the table, with a copy for each lane.
//
//   floor       393,216 bytes of a 256 px tile at 4.3 TB/s: 91 ns; 21,000 cycles of an SM of 132 at 1.75 GHz
//   beside it   instructions, occupancy: bench/kernel_account.py. The special-function unit (3 exponentials a pixel,
//               16 a cycle) 12,300 cycles, shared memory (3 look-ups, 3 for the turns) 12,300

#include "grey.cuh"

#define WARPS 16
#define THREADS (32 * WARPS)
#define STRIP 512                // pixels of a warp at a time

extern __shared__ __align__(16) unsigned char dynamic_shared[];

#define COPIES 32
#include "table.cuh"

// A tile's matrix as float32, to base 2, in shared memory
struct Matrix {
    float m[9], scale[3];
    bool same[3];  // the row is the identity's, exactly
};

// Pixels that fill no strip, or lie at odd addresses
__device__ __noinline__ void one_by_one(const byte* from, byte* to, int pixels, const Matrix& matrix, bool identity) {
    for (int i = threadIdx.x % 32; i < pixels; i += 32) {
        unsigned out[3] = {from[3 * i], from[3 * i + 1], from[3 * i + 2]};
        if (!identity)
            transform(matrix.m, matrix.scale, number(offset(out[0])), number(offset(out[1])), number(offset(out[2])), out);
        for (int k = 0; k < 3; k++) to[3 * i + k] = (byte)out[k];
    }
}

// Blocks b * per_tile to (b + 1) * per_tile - 1 take tile b, each `strips` strips a warp. Tile n of `pixels` pixels is
// that many after tile 0 in input and output; or, if there are `places` (n, 3), where those say: input, output, pixels.
// matrices (n, 3, 4), the shift last; logs (257,): log2 of (I + 1) / I0 for each grey level, and of I0.
extern "C" __global__ void __launch_bounds__(THREADS, 65536 / THREADS / 42)
macenko_apply(const byte* input, byte* output, int pixels, const address* places, int per_tile, int strips,
              const double* matrices, const float* logs) {
    const int n = blockIdx.x / per_tile, first = blockIdx.x % per_tile * (WARPS * STRIP) * strips;
    input += 3ll * n * pixels;
    output += 3ll * n * pixels;
    if (places) {
        input = (const byte*)places[3 * n];
        output = (byte*)places[3 * n + 1];
        pixels = (int)places[3 * n + 2];
    }
    if (first >= pixels) return;  // the tiles of a batch may differ in size

    __shared__ Matrix matrix;
    fill_table(0, [&](int level) { return __float_as_int(logs[level]); });
    if (threadIdx.x < 3) {
        const int k = threadIdx.x;
        const double* row = matrices + 12ll * n + 4 * k;
        bool same = true;
        for (int j = 0; j < 4; j++) same &= row[j] == (j == k ? 1.0 : 0.0);
        for (int j = 0; j < 3; j++) matrix.m[3 * k + j] = (float)row[j];
        matrix.scale[k] = logs[256] - (float)(row[3] * 1.4426950408889634);
        matrix.same[k] = same;
    }
    __syncthreads();
    float m[9], scale[3];
    for (int k = 0; k < 9; k++) m[k] = matrix.m[k];
    for (int k = 0; k < 3; k++) scale[k] = matrix.scale[k];
    const bool identity = matrix.same[0] && matrix.same[1] && matrix.same[2];  // then the tile is copied

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint4* turn = (uint4*)(dynamic_shared + TABLE_BYTES) + warp * (STRIP * 3 / 16);
    for (int k = 0; k < strips; k++) {
        const int start = first + (k * WARPS + warp) * STRIP;
        if (start >= pixels) break;
        const byte* from = input + 3ll * start;
        byte* to = output + 3ll * start;
        if (pixels - start < STRIP || (((address)from | (address)to) & 15)) {
            one_by_one(from, to, min(pixels - start, STRIP), matrix, identity);
            continue;
        }
        uint4 part[3];
        for (int i = 0; i < 3; i++) part[i] = ((const uint4*)from)[lane + 32 * i];
        if (!identity) {
            for (int i = 0; i < 3; i++) turn[lane + 32 * i] = part[i];
            __syncwarp();
            for (int i = 0; i < 3; i++) part[i] = turn[3 * lane + i];
            transform16(m, scale, part);
            for (int i = 0; i < 3; i++) turn[3 * lane + i] = part[i];
            __syncwarp();
            for (int i = 0; i < 3; i++) part[i] = turn[lane + 32 * i];
            __syncwarp();
        }
        for (int i = 0; i < 3; i++) ((uint4*)to)[lane + 32 * i] = part[i];
    }
}
