// Cutting tiles on the GPU: tiling_reference.py's area resampling and figures, from a decoded block, in one pass.
//
// A block of threads makes a rectangle of 16 x 64 stored pixels of one tile. It brings the source pixels under
// it, and under one more row and column on each side for the Laplacian, into shared memory with 16-byte loads,
// resamples from there, writes its pixels in whole words, and adds its integer sums to the tile's. A second
// kernel turns the sums of T tiles into figures; it reads no pixel.
//
// Bytes of a 512 -> 256 px tile: 786,432 in, 196,608 out: 229 ns at 4.3 TB/s. The margins are read twice, 16 % more
// loads, mostly out of the L2. Registers, occupancy: bench/kernel_account.py. Shared memory is read by
// single bytes: in words at any alignment, halving takes a fifth more instructions (162 for 134 a pixel, sm_90).
//
// Pixels equal the reference exactly. Weights are integers, a pixel's sum is below 255 * 2^26, and (sum + half)
// * inverse in float64, as in tiling_cpu.py, cannot round across a level. The figures are integer sums too, so the
// order of threads and blocks plays no part.

#define ROWS 16
#define COLUMNS 64
#define THREADS 256
#define HALO_ROWS (ROWS + 2)
#define HALO_COLUMNS (COLUMNS + 2)
#define FIGURES 6
#define SATURATION_STEPS 1048576.0f
#define SUMS 6  // of a tile: saturation in steps, white, stained, the Laplacian, its square, box + 2^32 pen

#include "async_copy.cuh"

typedef unsigned char byte;
typedef unsigned long long word64;

extern __shared__ __align__(16) unsigned char dynamic_shared[];

// Source pixels `side` and stored pixels across a tile; inverse: 2^40 / stored, rounded up
struct Scale {
    int side, stored;
    word64 inverse;

    // n / stored, where n < 2^26 and stored <= 2^13
    __device__ __forceinline__ int divided(int n) const { return (int)((word64)(unsigned)n * inverse >> 40); }
    // First source pixel under stored pixel i, and the one behind its last; the share of j under i
    __device__ __forceinline__ int first_under(int i) const { return divided(i * side); }
    __device__ __forceinline__ int behind(int i) const { return divided((i + 1) * side - 1) + 1; }
    __device__ __forceinline__ int overlap(int i, int j) const {
        return min((i + 1) * side, (j + 1) * stored) - max(i * side, j * stored);
    }
};

struct Source {
    const byte* pixels;       // of row `top`, column `left`
    long long pitch;          // bytes
    bool aligned;             // in shared memory, where a row lies as it does in the block, modulo 16
    unsigned start, slope;    // address of column `left` in row 0, and of a row on, modulo 2^32
    int top, left;

    __device__ __forceinline__ const byte* at(int y, int x) const {
        unsigned shift = aligned ? (start + (unsigned)y * slope) & 15u : 0u;
        return pixels + ((y - top) * pitch + shift + 3 * (x - left));
    }
};

// One row of bytes into shared memory by a warp; to and from agree modulo 16, and no byte outside is read
__device__ __forceinline__ void bring(byte* to, const byte* from, int bytes) {
    const int lane = threadIdx.x % 32;
    const int head = min(bytes, (int)(-(long long)(word64)from & 15)), vectors = (bytes - head) / 16;
    if (lane < head) to[lane] = from[lane];
    for (int i = lane; i < vectors; i += 32) start_copy16(to + head + 16 * i, from + head + 16 * i);
    for (int i = head + 16 * vectors + lane; i < bytes; i += 32) to[i] = from[i];
}

// tiling_reference.py's in_hsv_box and is_pen
__device__ __forceinline__ bool in_hsv_box(const int rgb[3], int high, int spread) {
    const bool hue = 60 * (high - rgb[2]) <= spread || 60 * (rgb[2] - rgb[1]) > spread;
    return hue && 34 * spread >= high && high >= 103;
}
__device__ __forceinline__ bool is_pen(const int rgb[3], int high, int spread) {
    const int rise = rgb[1] - rgb[0];
    const bool cold = rise >= 25 && 4 * rise >= high;
    const bool warm = rgb[0] >= 110 && 5 * max(rgb[1], rgb[2]) <= 2 * rgb[0];
    return cold || warm || (high < 60 && spread <= 20);
}

enum Mode { COPY, HALVE, AREA };  // side == stored, side == 2 stored, any other

template <Mode MODE>
__device__ __forceinline__ void resample(const Source& source, int y, int x, const Scale& scale, int rgb[3]) {
    if (MODE == COPY) {
        const byte* p = source.at(y, x);
        for (int k = 0; k < 3; k++) rgb[k] = p[k];
    } else if (MODE == HALVE) {
        const byte *p = source.at(2 * y, 2 * x), *q = source.at(2 * y + 1, 2 * x);
        for (int k = 0; k < 3; k++) rgb[k] = (p[k] + p[k + 3] + q[k] + q[k + 3] + 2) >> 2;
    } else {
        word64 sum[3] = {0, 0, 0};
        const int x0 = scale.first_under(x), x1 = scale.behind(x);
        for (int j = scale.first_under(y), y1 = scale.behind(y); j < y1; j++) {
            unsigned row[3] = {0, 0, 0};  // below 255 * 2^13
            const byte* p = source.at(j, x0);
            for (int i = x0; i < x1; i++, p += 3) {
                unsigned share = scale.overlap(x, i);
                for (int k = 0; k < 3; k++) row[k] += share * p[k];
            }
            word64 share = scale.overlap(y, j);
            for (int k = 0; k < 3; k++) sum[k] += share * row[k];
        }
        // the quarter is less than a step of the sum and more than its rounding
        const double area = (double)scale.side * scale.side, inverse = 1.0 / area, half = 0.5 * area + 0.25;
        for (int k = 0; k < 3; k++) rgb[k] = (int)(((double)sum[k] + half) * inverse);
    }
}

__device__ __forceinline__ word64 warp_sum(word64 value) {
    for (int d = 16; d; d >>= 1) value += __shfl_down_sync(~0u, value, d);
    return value;
}

// Grid: rectangles across, rectangles down, tiles. block (H, W, 3) with rows of `stride` bytes; origins (T, 2), x then
// y; tiles (T, stored, stored, 3); sums (T, SUMS), zeros. pitch: bytes of a row of a rectangle's source in shared memory;
// 0: it does not fit there, and is read where it is. white, stain: the darkest white and the brightest stained level.
template <Mode MODE>
__device__ __forceinline__ void cut(const byte* block, long long stride, const int* origins, const Scale& scale, int pitch,
                                    int white, int stain, int red, int green, int blue, byte* tiles,
                                    word64* sums) {
    const int stored = scale.stored, t = blockIdx.z, left = blockIdx.x * COLUMNS, top = blockIdx.y * ROWS;
    const int width = min(COLUMNS, stored - left), height = min(ROWS, stored - top);
    // with the margin, where the tile has one
    const int x0 = max(left - 1, 0), x1 = min(left + width + 1, stored);
    const int y0 = max(top - 1, 0), y1 = min(top + height + 1, stored);
    int* grey = (int*)dynamic_shared;  // [HALO_ROWS][HALO_COLUMNS], luminance in 256ths
    byte* out = dynamic_shared + 4 * HALO_ROWS * HALO_COLUMNS;  // [ROWS][3 * COLUMNS]
    byte* stage = out + ROWS * 3 * COLUMNS;

    Source source;
    const byte* origin = block + (long long)origins[2 * t + 1] * stride + 3ll * origins[2 * t];
    source.left = scale.first_under(x0);
    source.top = scale.first_under(y0);
    source.start = (unsigned)(word64)(origin + 3ll * source.left);
    source.slope = (unsigned)stride;
    const bool staged = MODE != AREA || pitch > 0;  // the others always fit: then the compiler knows where they read
    source.aligned = staged;
    source.pitch = staged ? pitch : stride;
    source.pixels = staged ? stage : origin + source.top * stride + 3ll * source.left;
    if (staged) {
        const int bottom = scale.behind(y1 - 1), right = scale.behind(x1 - 1);
        for (int y = source.top + threadIdx.x / 32; y < bottom; y += THREADS / 32)
            bring((byte*)source.at(y, source.left), origin + y * stride + 3ll * source.left,
                  3 * (right - source.left));
        finish_copies();
        __syncthreads();
    }

    unsigned saturation = 0, bright = 0, stained = 0, box = 0, pen = 0;  // of the few pixels of one thread
    int total = 0;
    word64 square = 0;
    for (int i = threadIdx.x; i < HALO_ROWS * HALO_COLUMNS; i += THREADS) {  // divided by constants
        const int y = top - 1 + i / HALO_COLUMNS, x = left - 1 + i % HALO_COLUMNS;
        if (y < y0 || y >= y1 || x < x0 || x >= x1) continue;
        int rgb[3];
        resample<MODE>(source, y, x, scale, rgb);
        grey[i] = red * rgb[0] + green * rgb[1] + blue * rgb[2];
        if (y < top || y >= top + height || x < left || x >= left + width) continue;
        const int high = max(max(rgb[0], rgb[1]), rgb[2]), low = min(min(rgb[0], rgb[1]), rgb[2]);
        const float share = __fdividef((float)(high - low), (float)max(high, 1));
        saturation += (unsigned)(share * SATURATION_STEPS + 0.5f);
        bright += low >= white;
        stained += high <= stain;
        box += in_hsv_box(rgb, high, high - low);
        pen += is_pen(rgb, high, high - low);
        for (int k = 0; k < 3; k++) out[(y - top) * 3 * COLUMNS + 3 * (x - left) + k] = (byte)rgb[k];
    }
    __syncthreads();

    byte* tile = tiles + 3ll * t * stored * stored;
    for (int y = threadIdx.x / 32; y < height; y += THREADS / 32) {
        byte* to = tile + 3ll * ((long long)(top + y) * stored + left);
        const byte* from = out + y * 3 * COLUMNS;
        const int lane = threadIdx.x % 32, words = ((word64)to & 3) ? 0 : 3 * width / 4;
        for (int i = lane; i < words; i += 32) ((unsigned*)to)[i] = ((const unsigned*)from)[i];
        for (int i = 4 * words + lane; i < 3 * width; i += 32) to[i] = from[i];
    }
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int y = top + i / COLUMNS, x = left + i % COLUMNS;
        if (y >= top + height || x >= left + width) continue;
        if (y == 0 || y == stored - 1 || x == 0 || x == stored - 1) continue;  // it has no four neighbours
        const int* centre = grey + (y - top + 1) * HALO_COLUMNS + x - left + 1;
        const int value = centre[-1] + centre[1] + centre[-HALO_COLUMNS] + centre[HALO_COLUMNS] - 4 * centre[0];
        total += value;
        square += (word64)((long long)value * value);
    }
    // modulo 2^64; a tile has at most 2^26 pixels of each kind
    word64 mine[SUMS] = {saturation, bright, stained, (word64)(long long)total, square, box + ((word64)pen << 32)};
    for (int k = 0; k < SUMS; k++) {
        word64 sum = warp_sum(mine[k]);
        if (threadIdx.x % 32 == 0) atomicAdd(sums + SUMS * t + k, sum);
    }
}

#define KERNEL(name, MODE)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                      \
    name(const byte* block, long long stride, const int* origins, int side, int stored, word64 inverse,        \
         int pitch, int white, int stain, int red, int green, int blue, byte* tiles, word64* sums) {           \
        const Scale scale = {side, stored, inverse};                                                           \
        cut<MODE>(block, stride, origins, scale, pitch, white, stain, red, green, blue, tiles, sums);          \
    }
KERNEL(tiling_copy, COPY)
KERNEL(tiling_halve, HALVE)
KERNEL(tiling_area, AREA)

// sums (T, SUMS) -> figures (T, FIGURES): saturation, white, focus, stained, hsv, pen
extern "C" __global__ void tiling_figures(const word64* sums, int count, int stored, float* figures) {
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= count) return;
    const word64* mine = sums + (long long)SUMS * t;
    const double area = (double)stored * stored, edge = max(stored - 2, 0), inner = edge * edge;
    const double total = (double)(long long)mine[3];
    float* to = figures + (long long)FIGURES * t;
    to[0] = (float)((double)mine[0] / (SATURATION_STEPS * area));
    to[1] = (float)((double)mine[1] / area);
    to[2] = inner > 0.0 ? (float)(((double)mine[4] - total * total / inner) / inner / 65536.0) : 0.0f;
    to[3] = (float)((double)mine[2] / area);
    to[4] = (float)((double)(mine[5] & 0xffffffffu) / area);
    to[5] = (float)((double)(mine[5] >> 32) / area);
}
