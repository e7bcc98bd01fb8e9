// Macenko on the GPU: macenko_reference.py's steps 1 to 7, a block of threads per tile.
//
// Bytes. A tile is read into shared memory once and written once. 256 px are 192 KiB of the 227 KiB that a
// Hopper block can have; what is larger than the shared memory goes through it in pieces, once per pass,
// mostly out of the L2.
//
//   shared memory    tile 196,608 + table 16,384 + keys 14,336 + bins 4,096 + static ~ 0.3 KiB of 232,448
//   floor            393,216 bytes at 4.3 TB/s: 91 ns a tile
//
// Arithmetic. Four passes over the pixels in shared memory; by the disassembly for sm_90 about 141 instructions a
// pixel in all (moments 30, angles 42, concentrations 33, output 36): 72,000 cycles of an SM that issues 4 warps
// a cycle, some 100,000 at a likely 70 %. Loading, storing and the serial parts between (eigenvectors in float64,
// selection) add about 35,000. With 132 SMs at 1.75 GHz that would be 1.7 M tiles/s of 256 px: an estimate, not a
// measurement. One block of 1,024 threads an SM, half of its warps, limited by the shared memory; 64 registers a
// thread, and a few spilled ones outside the loops.
//
// Optical density comes from a table with 16 copies of every entry, a copy for each lane of a half warp, so
// that at most two lanes meet in a bank. It is rounded to 2^-17: an integer in the moments, which are exact
// sums, and exact in float32. The table is rewritten between passes, because a conversion of integers to
// floats costs as much as a logarithm.
//
// Percentiles are exact order statistics, as in macenko_cpu.py. A sample of the pixels brackets the rank; a
// pass counts what lies below the bracket and keeps what lies within, about 1.5 % of the pixels; selection
// among those finds the rank. If the sample misled, or more lies within than there is room for, the bracket
// is widened to everything, or narrowed 256-fold by its histogram, and the pass repeated: the answer never
// depends on the sample, nor on the order of threads.

#ifndef THREADS
#define THREADS 1024
#endif
#define GROUPS 4                  // selections at once: two tails, a rank and the next
#define COPIES 16                 // of the table
#ifndef KEYS
#define KEYS 1792                 // kept of each tail; the size of a sample, too
#endif
#define BINS 256
#define SCALE 131072.0            // steps of optical density per unit; 2^24 products of two stay under 2^63
#define LAST 0xFFFFFFFEu          // largest key; beyond it: no key
#define NONE 0xFFFFFFFFu
#define ROTATIONS 36              // of Jacobi's method: twelve sweeps, where five or six suffice

#include "grey.cuh"

enum Setting {  // of the array `settings`
    KEEP_ANY, LEVEL, ALPHA, PERCENTILE,
    TISSUE_SHARE, TISSUE_PIXELS, VARIANCE, VARIANCE_RATIO, MIN_ANGLE, MAX_ANGLE, COMPONENT, MAX_C
};
enum Status { FITTED = 0, UNFITTED = 2 };  // of pathprep.stain

extern __shared__ __align__(16) unsigned char dynamic_shared[];

struct State {  // of a block, in shared memory
    double axes[2][3];       // second and largest eigenvector
    float weights[2][3];     // what the pixels' optical density is projected on
    float matrix[9];
    unsigned low[2], high[2];              // bracket of keys
    unsigned below[2], inside[2], above[2];  // keys below it, within it; the smallest beyond it
    unsigned from[GROUPS], to[GROUPS], rank[GROUPS];  // selections
    unsigned found[2][2];    // of each tail: the rank's key and the next one's
    unsigned count;
    int proceed;
};

struct Tile {
    const byte* source;
    int pixels;
    int capacity;        // pixels that the shared memory holds
    unsigned* words;     // shared memory
    int table;           // where this thread's copy starts in the shared memory, bytes
    unsigned* keys;      // [2][KEYS]
    unsigned* bins;      // [GROUPS][BINS]
    bool resident;       // the whole tile is in shared memory
};

__device__ __forceinline__ float reciprocal(float x) {  // of a normal number
#ifdef CUDA_SHIM
    return 1.0f / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

__device__ __forceinline__ void copy(byte* to, const byte* from, int bytes) {
    int start = 0;
    if ((((address)to | (address)from) & 15) == 0) {
        int vectors = bytes / 16;
        #pragma unroll 4
        for (int i = threadIdx.x; i < vectors; i += THREADS) ((uint4*)to)[i] = ((const uint4*)from)[i];
        start = vectors * 16;
    } else if ((((address)to | (address)from) & 3) == 0) {
        int words = bytes / 4;
        #pragma unroll 4
        for (int i = threadIdx.x; i < words; i += THREADS) ((unsigned*)to)[i] = ((const unsigned*)from)[i];
        start = words * 4;
    }
    for (int i = start + threadIdx.x; i < bytes; i += THREADS) to[i] = from[i];
}

// Calls work(first pixel, pixels) with those pixels in shared memory; a tile that stays there is not read again
template <class Work> __device__ __forceinline__ void pieces(const Tile& tile, Work work) {
    for (int start = 0; start < tile.pixels; start += tile.capacity) {
        int n = min(tile.pixels - start, tile.capacity);
        if (!tile.resident) {
            __syncthreads();  // the piece before is still being worked on
            copy((byte*)tile.words, tile.source + 3ll * start, 3 * n);
            __syncthreads();
        }
        work(start, n);
    }
}

// Calls work(red, green, blue) for every pixel, grey levels; four pixels are three words
template <class Work> __device__ __forceinline__ void pixels(const Tile& tile, Work work) {
    pieces(tile, [&](int, int n) {
        for (int i = 4 * threadIdx.x; i < n; i += 4 * THREADS) {
            const unsigned* word = tile.words + i / 4 * 3;
            unsigned a = word[0], b = word[1], c = word[2];
            work(a & 255, a >> 8 & 255, a >> 16 & 255);
            if (i + 1 < n) work(a >> 24, b & 255, b >> 8 & 255);
            if (i + 2 < n) work(b >> 16 & 255, b >> 24, c & 255);
            if (i + 3 < n) work(c >> 8 & 255, c >> 16 & 255, c >> 24);
        }
    });
}

__device__ __forceinline__ int lookup(const Tile& tile, unsigned level) {
    return *(const int*)(dynamic_shared + (tile.table + level * (4 * COPIES)));
}
__device__ __forceinline__ float density(const Tile& tile, unsigned level) {
    return __int_as_float(lookup(tile, level));
}

template <class Value> __device__ __forceinline__ void fill_table(const Tile& tile, Value value) {
    __syncthreads();
    int* table = (int*)(dynamic_shared + tile.table) - threadIdx.x % COPIES;
    for (int i = threadIdx.x; i < 256 * COPIES; i += THREADS) table[i] = value(i / COPIES);
    __syncthreads();
}

template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (int d = 16; d; d >>= 1) value += __shfl_down_sync(~0u, value, d);
    return value;
}

__device__ __forceinline__ unsigned warp_min(unsigned value) {
    for (int d = 16; d; d >>= 1) value = min(value, __shfl_down_sync(~0u, value, d));
    return value;
}

// Sums over the block of ten numbers of each thread, for thread 0; the bins serve as scratch
__device__ void block_sums(const Tile& tile, long long sums[10]) {
    long long* partial = (long long*)tile.bins;
    __syncthreads();
    for (int k = 0; k < 10; k++) {
        long long sum = warp_sum(sums[k]);
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32 * 10 + k] = sum;
    }
    __syncthreads();
    if (threadIdx.x < 32)
        for (int k = 0; k < 10; k++)
            sums[k] = warp_sum(threadIdx.x < THREADS / 32 ? partial[threadIdx.x * 10 + k] : 0ll);
    __syncthreads();
}

// Eigenvectors of the two largest eigenvalues of a symmetric matrix, by cyclic Jacobi; false if the second
// is too small (step 3). a: xx xy xz yy yz zz
__device__ __noinline__ bool plane(const double a[6], const double* settings, double axes[2][3]) {
    double m[3][3] = {{a[0], a[1], a[2]}, {a[1], a[3], a[4]}, {a[2], a[4], a[5]}};
    double v[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    const double tiny = 1e-16 * (m[0][0] + m[1][1] + m[2][2]);
    for (int turn = 0; turn < ROTATIONS; turn++) {
        #pragma unroll
        for (int pair = 0; pair < 3; pair++) {  // unrolled, so that the indices are constants
            if (pair != turn % 3) continue;
            const int p = pair == 2 ? 1 : 0, q = pair == 0 ? 1 : 2;
            if (fabs(m[p][q]) <= tiny) continue;
            double theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
            double t = copysign(1.0, theta) / (fabs(theta) + sqrt(theta * theta + 1.0));
            double c = rsqrt(t * t + 1.0), s = t * c;
            #pragma unroll
            for (int k = 0; k < 3; k++) {
                double x = m[k][p], y = m[k][q];
                m[k][p] = c * x - s * y;
                m[k][q] = s * x + c * y;
            }
            #pragma unroll
            for (int k = 0; k < 3; k++) {
                double x = m[p][k], y = m[q][k];
                m[p][k] = c * x - s * y;
                m[q][k] = s * x + c * y;
                x = v[k][p];
                y = v[k][q];
                v[k][p] = c * x - s * y;
                v[k][q] = s * x + c * y;
            }
        }
        if (fabs(m[0][1]) <= tiny && fabs(m[0][2]) <= tiny && fabs(m[1][2]) <= tiny) break;
    }
    double values[3] = {m[0][0], m[1][1], m[2][2]};
    #pragma unroll
    for (int pass = 0; pass < 3; pass++) {  // descending, the vectors with them
        #pragma unroll
        for (int i = 0; i < 2; i++) {
            if (values[i] >= values[i + 1]) continue;
            double x = values[i];
            values[i] = values[i + 1];
            values[i + 1] = x;
            #pragma unroll
            for (int k = 0; k < 3; k++) {
                x = v[k][i];
                v[k][i] = v[k][i + 1];
                v[k][i + 1] = x;
            }
        }
    }
    #pragma unroll
    for (int k = 0; k < 3; k++) {
        axes[1][k] = v[k][0];
        axes[0][k] = v[k][1];
    }
    return values[1] >= fmax(settings[VARIANCE], settings[VARIANCE_RATIO] * values[0]);
}

// Keys that compare as unsigned integers like the floats they are made of
__device__ __forceinline__ unsigned ordered(float value) {
    unsigned bits = __float_as_uint(value);
    return bits ^ ((unsigned)((int)bits >> 31) | 0x80000000u);
}
__device__ __forceinline__ float unordered(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

// Step 4: pseudo-angle -2 to 2, monotone in the angle, of tissue pixels, and minus it
struct Angles {
    const Tile& tile;
    const float* w;
    int level;  // the brightest that is tissue; -1 if none is
    bool keep_any;
    __device__ __forceinline__ bool operator()(unsigned r, unsigned g, unsigned b, unsigned key[2]) const {
        if ((int)(keep_any ? min(min(r, g), b) : max(max(r, g), b)) > level) return false;
        float red = density(tile, r), green = density(tile, g), blue = density(tile, b);
        float x = w[0] * red + w[1] * green + w[2] * blue;
        float y = w[3] * red + w[4] * green + w[5] * blue;
        float angle = y * reciprocal(fmaxf(fabsf(x) + fabsf(y), 1e-30f));
        if (x < 0.0f) angle = copysignf(2.0f, y) - angle;
        key[0] = ordered(angle);
        key[1] = ~key[0];  // the key of minus the angle
        return true;
    }
};

// Step 6: minus the two concentrations, of all pixels
struct Concentrations {
    const Tile& tile;
    const float* w;
    __device__ __forceinline__ bool operator()(unsigned r, unsigned g, unsigned b, unsigned key[2]) const {
        float red = density(tile, r), green = density(tile, g), blue = density(tile, b);
        key[0] = ordered(w[0] * red + w[1] * green + w[2] * blue);
        key[1] = ordered(w[3] * red + w[4] * green + w[5] * blue);
        return true;
    }
};

// One warp: in which of the bins the rank of group g lies; narrows the group's range to that bin
__device__ __forceinline__ void narrow(State& s, const unsigned* bins, int g, unsigned shift) {
    int lane = threadIdx.x % 32;
    const unsigned* mine = bins + lane * (BINS / 32);
    unsigned sum = 0;
    for (int i = 0; i < BINS / 32; i++) sum += mine[i];
    unsigned upto = sum;
    for (int d = 1; d < 32; d <<= 1) {
        unsigned other = __shfl_up_sync(~0u, upto, d);
        if (lane >= d) upto += other;
    }
    unsigned rank = s.rank[g], seen = upto - sum;
    __syncwarp();
    if (seen <= rank && rank < upto) {
        int bin = 0;
        while (seen + mine[bin] <= rank) seen += mine[bin++];
        s.rank[g] = rank - seen;
        s.from[g] += (unsigned)(lane * (BINS / 32) + bin) << shift;
        s.to[g] = s.from[g] + min(s.to[g] - s.from[g], (1u << shift) - 1);
    }
}

__device__ __forceinline__ unsigned bin_shift(unsigned from, unsigned to) {
    int bits = 32 - __clz((int)(to - from));
    return bits > 8 ? bits - 8 : 0;
}

__device__ __forceinline__ void clear_bins(const Tile& tile) {
    for (int i = threadIdx.x; i < GROUPS * BINS; i += THREADS) tile.bins[i] = 0;
}

// Selects in the kept keys, four ranks at once: group g takes keys[g / 2][0 .. counts[g / 2]), of which those in
// from[g] .. to[g] are the population of rank[g]. Afterwards from[g] is the key.
__device__ void select(const Tile& tile, State& s, unsigned count0, unsigned count1) {
    int g = threadIdx.x / (THREADS / GROUPS), member = threadIdx.x % (THREADS / GROUPS);
    unsigned count = g < 2 ? count0 : count1;
    const unsigned* keys = tile.keys + g / 2 * KEYS;
    for (int round = 0; round < 4; round++) {
        __syncthreads();
        clear_bins(tile);
        __syncthreads();
        unsigned from = s.from[g], to = s.to[g], shift = bin_shift(from, to);
        for (unsigned i = member; i < count; i += THREADS / GROUPS) {
            unsigned key = keys[i];
            if (from <= key && key <= to) atomicAdd(&tile.bins[g * BINS + ((key - from) >> shift)], 1u);
        }
        __syncthreads();
        for (int group = threadIdx.x / 32; group < GROUPS; group += THREADS / 32)
            narrow(s, tile.bins + group * BINS, group, bin_shift(s.from[group], s.to[group]));
        __syncthreads();
        bool more = false;
        for (int k = 0; k < GROUPS; k++) more |= s.from[k] < s.to[k];
        if (!more) break;
    }
    __syncthreads();
}

// A bracket for each tail: ranks of a sample, some standard deviations to both sides
template <class Keys>
__device__ void bracket(const Tile& tile, State& s, const Keys& keys, double share) {
    int step = tile.pixels / KEYS | 1;  // odd, so as not to walk in time with rows or with JPEG's blocks
    const byte* source = tile.resident ? (const byte*)tile.words : tile.source;
    unsigned least[2] = {LAST, LAST}, most[2] = {0, 0};
    if (threadIdx.x < 2) s.low[threadIdx.x] = LAST, s.high[threadIdx.x] = 0;
    if (threadIdx.x == 0) s.count = 0;
    __syncthreads();
    unsigned valid = 0;
    for (int i = threadIdx.x; i < KEYS; i += THREADS) {
        long long pixel = (long long)i * step;
        unsigned key[2] = {NONE, NONE};
        if (pixel < tile.pixels) {
            const byte* rgb = source + 3 * pixel;
            if (keys(rgb[0], rgb[1], rgb[2], key)) {
                valid++;
                for (int t = 0; t < 2; t++) least[t] = min(least[t], key[t]), most[t] = max(most[t], key[t]);
            }
        }
        tile.keys[i] = key[0];
        tile.keys[KEYS + i] = key[1];
    }
    valid = warp_sum(valid);
    for (int t = 0; t < 2; t++) {
        least[t] = warp_min(least[t]);
        most[t] = ~warp_min(~most[t]);
        if (threadIdx.x % 32 == 0) atomicMin(&s.low[t], least[t]), atomicMax(&s.high[t], most[t]);
    }
    if (threadIdx.x % 32 == 0) atomicAdd(&s.count, valid);
    __syncthreads();
    unsigned n = s.count;
    double expected = share * n, margin = 2.5 * sqrt(expected) + 3.0;
    if (n < 64) {  // uniform over the block
        __syncthreads();
        if (threadIdx.x < 2) s.low[threadIdx.x] = 0, s.high[threadIdx.x] = LAST;
        __syncthreads();
        return;
    }
    unsigned first = expected > margin ? (unsigned)(expected - margin) : 0;
    unsigned last = min((unsigned)(expected + margin), n - 1);
    if (threadIdx.x < GROUPS) {
        int g = threadIdx.x;
        s.from[g] = s.low[g / 2];
        s.to[g] = s.high[g / 2];
        s.rank[g] = g % 2 ? last : first;
    }
    select(tile, s, KEYS, KEYS);
    if (threadIdx.x < 2) {
        s.low[threadIdx.x] = first ? s.from[2 * threadIdx.x] : 0;
        s.high[threadIdx.x] = s.from[2 * threadIdx.x + 1];
    }
    __syncthreads();
}

// Steps 4 and 6: of both tails the keys of ranks `rank` and `rank` + 1 (from 0; the last twice), into s.found
template <class Keys>
__device__ void order_statistics(const Tile& tile, State& s, const Keys& keys, unsigned population, double share,
                                 unsigned rank) {
    bracket(tile, s, keys, share);
    bool open[2] = {true, true};        // the same in all threads
    unsigned kept[2] = {0, 0};
    while (open[0] || open[1]) {
        clear_bins(tile);
        if (threadIdx.x < 2 && open[threadIdx.x])
            s.below[threadIdx.x] = 0, s.inside[threadIdx.x] = 0, s.above[threadIdx.x] = NONE;
        __syncthreads();
        // what is counted for a finished tail is dropped
        unsigned low[2], high[2], shift[2], below[2] = {0, 0}, above[2] = {NONE, NONE};
        for (int t = 0; t < 2; t++) {
            low[t] = s.low[t];
            high[t] = s.high[t];
            shift[t] = bin_shift(low[t], high[t]);
        }
        pixels(tile, [&](unsigned r, unsigned g, unsigned b) {
            unsigned key[2];
            if (!keys(r, g, b, key)) return;
            #pragma unroll
            for (int t = 0; t < 2; t++) {
                if (key[t] > high[t]) {
                    above[t] = min(above[t], key[t]);
                } else if (key[t] < low[t]) {
                    below[t]++;
                } else if (open[t]) {
                    unsigned place = atomicAdd(&s.inside[t], 1u);
                    if (place < KEYS) tile.keys[t * KEYS + place] = key[t];
                    atomicAdd(&tile.bins[t * BINS + ((key[t] - low[t]) >> shift[t])], 1u);
                }
            }
        });
        for (int t = 0; t < 2; t++) {
            if (!open[t]) continue;
            below[t] = warp_sum(below[t]);
            above[t] = warp_min(above[t]);
            if (threadIdx.x % 32 == 0) atomicAdd(&s.below[t], below[t]), atomicMin(&s.above[t], above[t]);
        }
        __syncthreads();
        for (int t = 0; t < 2; t++) {
            if (!open[t]) continue;
            unsigned under = s.below[t], within = s.inside[t];
            if (rank < under || rank >= under + within) {  // the sample misled
                low[t] = 0;
                high[t] = LAST;
            } else if (low[t] == high[t] || within <= KEYS) {
                kept[t] = within;
                open[t] = false;
                if (threadIdx.x < 2) {  // the rank itself, and the next: beyond the bracket it finds nothing
                    int g = 2 * t + threadIdx.x;
                    s.from[g] = low[t];
                    s.to[g] = high[t];
                    s.rank[g] = rank + threadIdx.x - under;
                }
            } else {  // too many to keep: a narrower bracket
                if (threadIdx.x == 0) s.from[2 * t] = low[t], s.to[2 * t] = high[t], s.rank[2 * t] = rank - under;
                __syncthreads();
                if (threadIdx.x < 32) narrow(s, tile.bins + t * BINS, 2 * t, shift[t]);
                __syncthreads();
                low[t] = s.from[2 * t];
                high[t] = s.to[2 * t];
                __syncthreads();
            }
        }
        __syncthreads();
        if (threadIdx.x == 0)
            for (int t = 0; t < 2; t++) s.low[t] = low[t], s.high[t] = high[t];
        __syncthreads();
    }
    // where a bracket is one key, that key was found already; its copies need not fit
    select(tile, s, min(kept[0], (unsigned)KEYS), min(kept[1], (unsigned)KEYS));
    if (threadIdx.x < 2) {
        int t = threadIdx.x;
        bool beyond = rank + 1 >= s.below[t] + s.inside[t];
        s.found[t][0] = s.from[2 * t];
        s.found[t][1] = rank + 1 >= population ? s.found[t][0] : beyond ? s.above[t] : s.from[2 * t + 1];
    }
    __syncthreads();
}

// Steps 1 to 3: exact sums of the tissue's optical density, the plane of the stains
__device__ void find_plane(const Tile& tile, State& s, const double* settings, long long* tissue) {
    const int level = (int)settings[LEVEL];
    const bool keep_any = settings[KEEP_ANY] != 0.0;
    long long sums[10] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    pixels(tile, [&](unsigned r, unsigned g, unsigned b) {
        if ((int)(keep_any ? min(min(r, g), b) : max(max(r, g), b)) > level) return;
        int x = lookup(tile, r), y = lookup(tile, g), z = lookup(tile, b);
        sums[0] += 1;
        sums[1] += x;
        sums[2] += y;
        sums[3] += z;
        sums[4] += (long long)x * x;
        sums[5] += (long long)x * y;
        sums[6] += (long long)x * z;
        sums[7] += (long long)y * y;
        sums[8] += (long long)y * z;
        sums[9] += (long long)z * z;
    });
    block_sums(tile, sums);
    if (threadIdx.x == 0) {
        double count = (double)sums[0], mean[3], covariance[6];
        *tissue = sums[0];
        s.count = (unsigned)sums[0];
        s.proceed = count >= fmax(settings[TISSUE_PIXELS], settings[TISSUE_SHARE] * tile.pixels) && count > 1.0;
        if (s.proceed) {
            for (int i = 0; i < 3; i++) mean[i] = (double)sums[1 + i] / (SCALE * count);
            for (int i = 0, k = 0; i < 3; i++)
                for (int j = i; j < 3; j++, k++)
                    covariance[k] = ((double)sums[4 + k] / (SCALE * SCALE) - count * mean[i] * mean[j]) / (count - 1.0);
            s.proceed = plane(covariance, settings, s.axes);
            // the cut of the angle lies behind the data; the largest only mirrors it
            double side = s.axes[0][0] * mean[0] + s.axes[0][1] * mean[1] + s.axes[0][2] * mean[2];
            for (int a = 0; a < 2; a++)
                for (int k = 0; k < 3; k++) {
                    if (a == 0 && side < 0.0) s.axes[0][k] = -s.axes[0][k];
                    s.weights[a][k] = (float)s.axes[a][k];
                }
        }
    }
    __syncthreads();
}

// The angle in radians of a pseudo-angle's key
__device__ __forceinline__ float angle_of(float p) {
    float x = 1.0f - fabsf(p);
    return atan2f(fabsf(p) <= 1.0f ? p : copysignf(2.0f, p) - p, x);
}

// Thread 0, step 5: stain vectors from the extreme angles; their unmixing as weights. Whether they are plausible
__device__ __noinline__ bool stain_vectors(State& s, const double* settings, float weight, double he[3][2]) {
    float extreme[2];
    for (int t = 0; t < 2; t++) {
        float sign = t ? -1.0f : 1.0f;
        float first = angle_of(sign * unordered(s.found[t][0])), next = angle_of(sign * unordered(s.found[t][1]));
        extreme[t] = first + weight * (next - first);
    }
    float apart = (extreme[1] - extreme[0]) * 57.29577951f;
    if (!(apart >= settings[MIN_ANGLE] && apart <= settings[MAX_ANGLE])) return false;
    double vectors[2][3], least = 1.0, across = 0.0;
    for (int t = 0; t < 2; t++) {
        float sine, cosine;
        sincosf(extreme[t], &sine, &cosine);
        for (int k = 0; k < 3; k++) {
            vectors[t][k] = s.axes[0][k] * cosine + s.axes[1][k] * sine;
            least = fmin(least, vectors[t][k]);
        }
    }
    if (least < settings[COMPONENT]) return false;
    int h = vectors[0][0] > vectors[1][0] ? 0 : 1;
    double length[2] = {0.0, 0.0};
    for (int t = 0; t < 2; t++)
        for (int k = 0; k < 3; k++) length[t] += vectors[t][k] * vectors[t][k];
    for (int k = 0; k < 3; k++) {  // float32 angles leave the length off one by 1e-7
        he[k][0] = vectors[h][k] * rsqrt(length[h]);
        he[k][1] = vectors[1 - h][k] * rsqrt(length[1 - h]);
        across += he[k][0] * he[k][1];
    }
    for (int k = 0; k < 3; k++) {  // pinv(HE), times -1: upper tails are lower ones
        s.weights[0][k] = (float)((across * he[k][1] - he[k][0]) / (1.0 - across * across));
        s.weights[1][k] = (float)((across * he[k][0] - he[k][1]) / (1.0 - across * across));
    }
    return true;
}

// Steps 1 to 6. Thread 0 knows he and max_c; all threads get whether they are a fit
__device__ bool fit(const Tile& tile, State& s, const double* settings, const int* densities, double he[3][2],
                    double max_c[2], long long* tissue) {
    fill_table(tile, [&](int level) { return densities[level]; });
    find_plane(tile, s, settings, tissue);
    const unsigned count = s.count;
    if (!s.proceed) return false;

    fill_table(tile, [&](int level) { return __float_as_int((float)(densities[level] * (1.0 / SCALE))); });
    double share = settings[ALPHA] / 100.0, position = (count - 1) * share;
    order_statistics(tile, s, Angles{tile, s.weights[0], (int)settings[LEVEL], settings[KEEP_ANY] != 0.0}, count,
                     share, (unsigned)position);
    if (threadIdx.x == 0)
        s.proceed = stain_vectors(s, settings, (float)(position - floor(position)), he);
    __syncthreads();
    if (!s.proceed) return false;

    share = (100.0 - settings[PERCENTILE]) / 100.0;
    position = (tile.pixels - 1) * share;
    order_statistics(tile, s, Concentrations{tile, s.weights[0]}, tile.pixels, share, (unsigned)position);
    if (threadIdx.x == 0) {
        for (int t = 0; t < 2; t++) {
            double first = unordered(s.found[t][0]), next = unordered(s.found[t][1]);
            max_c[t] = -(first + (position - floor(position)) * (next - first));
        }
        s.proceed = fmin(max_c[0], max_c[1]) >= settings[MAX_C];
    }
    __syncthreads();
    return s.proceed;
}

// Thread 0: steps 6 and 7 as one matrix, row-major; target: HE (3, 2), then maxC
__device__ __noinline__ void matrix_to(const double* target, const double he[3][2], const double max_c[2],
                                       float matrix[9]) {
    double across = he[0][0] * he[0][1] + he[1][0] * he[1][1] + he[2][0] * he[2][1];
    double gain[2] = {target[6] / max_c[0], target[7] / max_c[1]};
    for (int j = 0; j < 3; j++) {
        double h = (he[j][0] - across * he[j][1]) / (1.0 - across * across) * gain[0];
        double e = (he[j][1] - across * he[j][0]) / (1.0 - across * across) * gain[1];
        for (int k = 0; k < 3; k++) matrix[3 * k + j] = (float)(target[2 * k] * h + target[2 * k + 1] * e);
    }
}

// Step 7 in shared memory, and out. logs: (257,) log2 of (I + 1) / I0 for each grey level, and of I0
__device__ void write(const Tile& tile, const State& s, const float* logs, byte* output, bool fitted) {
    float m[9];
    for (int k = 0; k < 9; k++) m[k] = s.matrix[k];
    const float scale[3] = {logs[256], logs[256], logs[256]};
    if (fitted) fill_table(tile, [&](int level) { return __float_as_int(logs[level]); });
    pieces(tile, [&](int start, int n) {
        if (fitted)
            for (int i = 4 * threadIdx.x; i < n; i += 4 * THREADS) {
                unsigned* word = tile.words + i / 4 * 3;
                unsigned a = word[0], b = word[1], c = word[2], p[3], q[3], u[3], v[3];
                transform(m, scale, density(tile, a & 255), density(tile, a >> 8 & 255), density(tile, a >> 16 & 255), p);
                transform(m, scale, density(tile, a >> 24), density(tile, b & 255), density(tile, b >> 8 & 255), q);
                transform(m, scale, density(tile, b >> 16 & 255), density(tile, b >> 24), density(tile, c & 255), u);
                transform(m, scale, density(tile, c >> 8 & 255), density(tile, c >> 16 & 255), density(tile, c >> 24), v);
                word[0] = p[0] | p[1] << 8 | p[2] << 16 | q[0] << 24;
                word[1] = q[1] | q[2] << 8 | u[0] << 16 | u[1] << 24;
                word[2] = u[2] | v[0] << 8 | v[1] << 16 | v[2] << 24;
            }
        __syncthreads();
        copy(output + 3ll * start, (const byte*)tile.words, 3 * n);
    });
}

// One tile a block. inputs, outputs: addresses of n tiles; outputs null: fit only.
// settings: see Setting. densities: (256,) optical density in steps. logs: see write. target: see matrix_to.
// he (n, 3, 2), max_c (n, 2), tissue (n,), status (n,); he and max_c hold zeros.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
macenko(const address* inputs, const address* outputs, const int* sizes, int capacity, const double* settings,
        const int* densities, const float* logs, const double* target, double* he_out, double* max_c_out,
        long long* tissue, byte* status) {
    __shared__ State s;
    const int n = blockIdx.x;
    const int room = (3 * capacity + 15) / 16 * 16;
    Tile tile;
    tile.source = (const byte*)inputs[n];
    tile.pixels = sizes[n];
    tile.capacity = capacity;
    tile.words = (unsigned*)dynamic_shared;
    tile.table = room + 4 * (threadIdx.x % COPIES);
    tile.keys = (unsigned*)(dynamic_shared + room + 4 * 256 * COPIES);
    tile.bins = tile.keys + 2 * KEYS;
    tile.resident = tile.pixels <= capacity;
    if (tile.resident) copy((byte*)tile.words, tile.source, 3 * tile.pixels);

    double he[3][2], max_c[2];
    bool fitted = fit(tile, s, settings, densities, he, max_c, tissue + n);
    if (threadIdx.x == 0) {
        status[n] = fitted ? FITTED : UNFITTED;
        if (fitted) {
            for (int k = 0; k < 6; k++) he_out[6ll * n + k] = he[k / 2][k % 2];
            for (int k = 0; k < 2; k++) max_c_out[2ll * n + k] = max_c[k];
            if (outputs) matrix_to(target, he, max_c, s.matrix);
        }
    }
    __syncthreads();
    if (outputs) write(tile, s, logs, (byte*)outputs[n], fitted);
}
