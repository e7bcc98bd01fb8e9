// Macenko on the GPU: macenko_reference.py's steps 1 to 7, a block of threads per tile.
//
//   macenko_tile.cuh     the tile in shared memory, the walk over its pixels, the table of its optical density
//   macenko_plane.cuh    what one thread does: the plane of the stains, their vectors, the matrix
//   macenko_select.cuh   the percentiles
//
// Bytes. A tile is read into shared memory once and written once. 256 px are 192 KiB of the 227 KiB that a
// Hopper block can have; what is larger than the shared memory goes through it in pieces, once per pass,
// mostly out of the L2.
//
// Arithmetic. Four passes over the pixels in shared memory: moments, angles, concentrations, output. Instructions
// a pixel of each, registers, and what a model makes of them: bench/kernel_account.py. One block of 1,024 threads an
// SM, half of its warps, limited by the shared memory. What one thread does alone, the others use to fill tables.
//
// Optical density comes from a table. It is rounded to 2^-17: an integer in the moments, which are exact sums, and
// exact in float32. The table is rewritten between passes, because a conversion of integers to floats costs as much
// as a logarithm.

#ifndef THREADS
#define THREADS 1024
#endif
#define SCALE 131072.0            // steps of optical density per unit; 2^24 products of two stay under 2^63
#define INFINITE __int_as_float(0x7F800000)
#define NOT_A_NUMBER __int_as_float(0x7FFFFFFF)

extern __shared__ __align__(16) unsigned char dynamic_shared[];

#include "grey.cuh"
#include "macenko_tile.cuh"
#include "macenko_select.cuh"
#include "macenko_plane.cuh"

enum Status { FITTED = 0, UNFITTED = 2 };  // of pathprep.stain

struct State {  // of a block, in shared memory
    Selection selection;
    long long sums[10];
    double axes[2][3];       // second and largest eigenvector
    double he[3][2];
    float weights[2][3];     // what the pixels' optical density is projected on
    float matrix[9];
    bool proceed;
};

// Steps 1 and 2: exact sums of the tissue's optical density and of its products
__device__ __forceinline__ void moments(const Tile& tile, State& s, int level, bool keep_any) {
    const unsigned brightest = (unsigned)level << 6 | 63;  // offset; level -1: none is tissue
    long long sums[10] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    if (level >= 0)
        pieces(tile, [&](int, int n) {
            int few[4] = {0, 0, 0, 0};  // a thread's sums of a piece stay under 2^31: 2^20 steps, at most 2,047 pixels
            auto add = [&](unsigned r, unsigned g, unsigned b) {
                const int x = whole(r), y = whole(g), z = whole(b);
                if ((keep_any ? min(min(r, g), b) : max(max(r, g), b)) > brightest) return;
                few[0] += 1;
                few[1] += x;
                few[2] += y;
                few[3] += z;
                sums[4] += (long long)x * x;
                sums[5] += (long long)x * y;
                sums[6] += (long long)x * z;
                sums[7] += (long long)y * y;
                sums[8] += (long long)y * z;
                sums[9] += (long long)z * z;
            };
            walk(
                tile, n, [&](const uint4 part[3], int) { sixteen(part, [&](int, unsigned r, unsigned g, unsigned b) { add(r, g, b); }); },
                [&](const byte* rgb, int) { add(offset(rgb[0]), offset(rgb[1]), offset(rgb[2])); });
            for (int k = 0; k < 4; k++) sums[k] += few[k];
        });
    block_sums(tile, sums, s.sums);
}

// Steps 1 to 6. All threads get whether they are a fit; thread 0 knows max_c, and s.he is the stains
__device__ __forceinline__ bool fit(const Tile& tile, State& s, const double* settings, const int* densities,
                                    double max_c[2]) {
    const int level = (int)settings[LEVEL];
    const bool keep_any = settings[KEEP_ANY] != 0.0;
    unsigned found[2][2];
    fill_table(0, [&](int i) { return densities[i]; });
    finish_copies();
    __syncthreads();
    moments(tile, s, level, keep_any);
    if (threadIdx.x < 32) {
        if (threadIdx.x == 0) {
            s.proceed = plane_of(s.sums, tile.pixels, settings, s.axes);
            for (int a = 0; a < 2; a++)
                for (int k = 0; k < 3; k++) s.weights[a][k] = (float)s.axes[a][k];
        }
    } else {  // glass is not a number, and under no cut
        fill_table(1, [&](int i) {
            return __float_as_int(keep_any || i <= level ? (float)(densities[i] * (1.0 / SCALE)) : NOT_A_NUMBER);
        });
    }
    __syncthreads();
    if (!s.proceed) return false;

    const unsigned count = (unsigned)s.sums[0];
    double share = settings[ALPHA] / 100.0, position = (count - 1) * share;
    order_statistics(tile, s.selection, Angles{tile, s.weights, level, keep_any}, count, (float)share,
                     (unsigned)position, found);
    if (threadIdx.x < 32) {
        if (threadIdx.x == 0)
            s.proceed = stain_vectors(s.axes, found, settings, (float)(position - floor(position)), s.he, s.weights);
    } else {
        fill_table(1, [&](int i) { return __float_as_int((float)(densities[i] * (1.0 / SCALE))); });
    }
    __syncthreads();
    if (!s.proceed) return false;

    share = (100.0 - settings[PERCENTILE]) / 100.0;
    position = (tile.pixels - 1) * share;
    order_statistics(tile, s.selection, Concentrations{tile, s.weights}, tile.pixels, (float)share, (unsigned)position,
                     found);
    for (int t = 0; t < 2; t++) max_c[t] = percentile(found[t], position - floor(position));
    return fmin(max_c[0], max_c[1]) >= settings[MAX_C];
}

// Step 7 in shared memory, and out
__device__ __forceinline__ void write(const Tile& tile, const float matrix[9], float light, byte* output, bool fitted) {
    float m[9];
    for (int k = 0; k < 9; k++) m[k] = matrix[k];
    const float scale[3] = {light, light, light};
    pieces(tile, [&](int start, int n) {
        if (fitted)
            for (int i = threadIdx.x; i < (n + 15) / 16; i += THREADS) {
                uint4* place = (uint4*)tile.held + 3 * i;
                uint4 part[3] = {place[0], place[1], place[2]};
                transform16(m, scale, part);
                #pragma unroll
                for (int k = 0; k < 3; k++) place[k] = part[k];
            }
        __syncthreads();
        send(tile, output + 3ll * start, 3 * n);
    });
}

// One tile a block. Tile n of `pixels` pixels is that many after tile 0 in input and output; or, if there are
// `places` (n, 3), where those say: input, output, pixels. output null: fit only. capacity, room: see Tile.
// settings: see Setting. densities: (256,) optical density in steps. light: log2 of I0. target: see matrix_to.
// he (n, 3, 2), max_c (n, 2), tissue (n,), status (n,).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
macenko(const byte* input, byte* output, int pixels, const address* places, int capacity, int room,
        const double* settings, const int* densities, float light, const double* target, double* he, double* max_c,
        long long* tissue, byte* status) {
    __shared__ State s;
    const int n = blockIdx.x;
    Tile tile;
    tile.source = places ? (const byte*)places[3 * n] : input + 3ll * n * pixels;
    tile.pixels = places ? (int)places[3 * n + 2] : pixels;
    tile.capacity = capacity;
    tile.room = room;
    tile.bins = (unsigned*)(dynamic_shared + TABLE_BYTES);
    tile.keys = (unsigned*)(dynamic_shared + TABLE_BYTES + BINS_BYTES);
    tile.held = dynamic_shared + TABLE_BYTES + BINS_BYTES + 8 * room;
    tile.resident = tile.pixels <= capacity;
    if (tile.resident) bring(tile, tile.source, 3 * tile.pixels);

    double largest[2];
    const bool fitted = fit(tile, s, settings, densities, largest);
    if (threadIdx.x == 0) {
        tissue[n] = s.sums[0];
        status[n] = fitted ? FITTED : UNFITTED;
        for (int k = 0; k < 6; k++) he[6ll * n + k] = fitted ? s.he[k / 2][k % 2] : 0.0;
        for (int k = 0; k < 2; k++) max_c[2ll * n + k] = fitted ? largest[k] : 0.0;
        if (fitted && output) matrix_to(target, s.he, largest, s.matrix);
    }
    __syncthreads();
    if (!output) return;
    write(tile, s.matrix, light, places ? (byte*)places[3 * n + 1] : output + 3ll * n * pixels, fitted);
}
