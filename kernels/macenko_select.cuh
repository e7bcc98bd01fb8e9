// Steps 4 and 6: two order statistics of each tail of the angles and of the concentrations, exactly.
//
// A key is an unsigned integer that compares as the float it is made of. A sample of the pixels gives a cut that
// the ranks most likely lie under. A pass notes the pixels under the cut, some 1.7 % a tail: two dot products and
// two comparisons a pixel, for a cut of the angle is a plane through the origin. Selection among the noted finds
// the ranks. If the sample misled, the cut is raised and the pass repeated; if there is no room for what lies under
// the cut, the selection itself passes over the pixels. So the answer depends neither on the sample nor on the
// order of threads.

#define LAST 0xFFFFFFFEu          // largest key; beyond it: no key
#define NONE 0xFFFFFFFFu

struct Selection {  // in shared memory
    unsigned from[GROUPS], to[GROUPS], rank[GROUPS];  // a rank, counted in the range of keys where it is
    unsigned cut[2];         // key that a tail's ranks are looked for under
    unsigned least[2], most[2], valid;                // of a sample
    unsigned noted[2];
};

struct Planes {  // a pixel is under a cut where its optical density times w is at most h; NaN never is
    float w[2][3], h[2];
};

__device__ __forceinline__ unsigned ordered(float value) {
    unsigned bits = __float_as_uint(value);
    return bits ^ ((unsigned)((int)bits >> 31) | 0x80000000u);
}
__device__ __forceinline__ float unordered(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

__device__ __forceinline__ float dot(const float w[3], float red, float green, float blue) {
    return fmaf(w[2], blue, fmaf(w[1], green, w[0] * red));
}

__device__ __forceinline__ float reciprocal(float x) {  // of a normal number
#ifdef CUDA_SHIM
    return 1.0f / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// Step 4: pseudo-angle -2 to 2, monotone in the angle, of tissue pixels, and minus it
struct Angles {
    const Tile& tile;
    const float (*w)[3];  // second and largest eigenvector
    int level;            // the brightest that is tissue; -1 if none is
    bool keep_any;

    __device__ __forceinline__ void operator()(const byte* rgb, unsigned key[2]) const {
        const int r = rgb[0], g = rgb[1], b = rgb[2];
        key[0] = key[1] = NONE;
        if ((keep_any ? min(min(r, g), b) : max(max(r, g), b)) > level) return;
        float red = number(offset(rgb[0])), green = number(offset(rgb[1])), blue = number(offset(rgb[2]));
        float x = dot(w[0], red, green, blue), y = dot(w[1], red, green, blue);
        float angle = y * reciprocal(fmaxf(fabsf(x) + fabsf(y), 1e-30f));
        if (x < 0.0f) angle = copysignf(2.0f, y) - angle;
        key[0] = ordered(angle);
        key[1] = ~key[0];  // the key of minus the angle
    }

    // Both together leave exactly the angles between the cuts, where the first is the smaller one. Where it is not,
    // or there is no cut, every pixel of tissue is under both. OD is below 6: what rounds in keys and products stays
    // below 1e-5
    __device__ __forceinline__ Planes planes(const unsigned cut[2]) const {
        const float angle[2] = {unordered(cut[0]), -unordered(cut[1])};
        const bool usable = cut[0] < LAST && cut[1] < LAST && angle[0] < angle[1];
        Planes planes;
        for (int t = 0; t < 2; t++) {
            const float p = usable ? angle[t] : 0.0f, sign = usable ? (t ? -1.0f : 1.0f) : 0.0f;
            const float x = 1.0f - fabsf(p), y = fabsf(p) <= 1.0f ? p : copysignf(2.0f, p) - p;
            for (int k = 0; k < 3; k++) planes.w[t][k] = sign * (x * w[1][k] - y * w[0][k]);
            planes.h[t] = 5e-5f;
        }
        return planes;
    }
};

// Step 6: minus the two concentrations, of all pixels
struct Concentrations {
    const Tile& tile;
    const float (*w)[3];

    __device__ __forceinline__ void operator()(const byte* rgb, unsigned key[2]) const {
        float red = number(offset(rgb[0])), green = number(offset(rgb[1])), blue = number(offset(rgb[2]));
        for (int t = 0; t < 2; t++) key[t] = ordered(dot(w[t], red, green, blue));
    }

    __device__ __forceinline__ Planes planes(const unsigned cut[2]) const {
        Planes planes;
        for (int t = 0; t < 2; t++) {
            for (int k = 0; k < 3; k++) planes.w[t][k] = w[t][k];
            planes.h[t] = cut[t] < LAST ? unordered(cut[t]) : INFINITE;
        }
        return planes;
    }
};

// Calls work(tail, number of a pixel) for all pixels under the cuts, and for a few that may not be
template <class Work> __device__ __forceinline__ void under(const Tile& tile, const Planes& planes, Work work) {
    pieces(tile, [&](int start, int n) {
        walk(
            tile, n,
            [&](const uint4 part[3], int first) {
                unsigned found = 0;  // a bit for each tail of each pixel
                sixteen(part, [&](int k, unsigned r, unsigned g, unsigned b) {
                    const float red = number(r), green = number(g), blue = number(b);
                    if (dot(planes.w[0], red, green, blue) <= planes.h[0]) found |= 1u << k;
                    if (dot(planes.w[1], red, green, blue) <= planes.h[1]) found |= 0x10000u << k;
                });
                while (found) {
                    const int bit = __ffs((int)found) - 1;
                    found &= found - 1;
                    work(bit >> 4, start + first + (bit & 15));
                }
            },
            [&](const byte*, int i) {
                work(0, start + i);
                work(1, start + i);
            });
    });
}

__device__ __forceinline__ unsigned bin_shift(unsigned from, unsigned to) {
    int bits = 32 - __clz((int)(to - from));
    return bits > 8 ? bits - 8 : 0;
}

__device__ __forceinline__ void count(const Tile& tile, const Selection& s, int g, unsigned key) {
    if (s.from[g] <= key && key <= s.to[g])
        atomicAdd(&tile.bins[g * BINS + ((key - s.from[g]) >> bin_shift(s.from[g], s.to[g]))], 1u);
}

// One warp: in which of the bins the rank of group g lies; narrows the group's range to that bin, or to nothing
// if there are not so many
__device__ __forceinline__ void narrow(const Tile& tile, Selection& s, int g) {
    const int lane = threadIdx.x % 32;
    const unsigned* mine = tile.bins + g * BINS + lane * (BINS / 32);
    unsigned sum = 0;
    for (int i = 0; i < BINS / 32; i++) sum += mine[i];
    unsigned upto = sum;
    for (int d = 1; d < 32; d <<= 1) {
        unsigned other = __shfl_up_sync(~0u, upto, d);
        if (lane >= d) upto += other;
    }
    const unsigned rank = s.rank[g], from = s.from[g], to = s.to[g], shift = bin_shift(from, to);
    unsigned seen = upto - sum;
    __syncwarp();
    if (seen <= rank && rank < upto) {
        int bin = 0;
        while (seen + mine[bin] <= rank) seen += mine[bin++];
        const unsigned start = from + ((unsigned)(lane * (BINS / 32) + bin) << shift);
        s.rank[g] = rank - seen;
        s.from[g] = start;
        s.to[g] = start + min(to - start, (1u << shift) - 1);
    } else if (lane == 31 && rank >= upto) {
        s.from[g] = NONE;
        s.to[g] = 0;
    }
}

// Narrows the ranges of all groups, until each is one key or `rounds` are done. scan: counts every key in the bins
template <class Scan> __device__ __forceinline__ void select(const Tile& tile, Selection& s, int rounds, Scan scan) {
    for (bool more = true; more && rounds; rounds--) {
        __syncthreads();
        for (int i = threadIdx.x; i < GROUPS * BINS; i += THREADS) tile.bins[i] = 0;
        __syncthreads();
        scan();
        __syncthreads();
        for (int g = threadIdx.x / 32; g < GROUPS; g += WARPS) narrow(tile, s, g);
        __syncthreads();
        more = false;
        for (int g = 0; g < GROUPS; g++) more |= s.from[g] < s.to[g];
    }
    __syncthreads();
}

// Counts the keys of the two lists, a quarter of the block to each group
__device__ __forceinline__ void scan_lists(const Tile& tile, const Selection& s, const unsigned size[2]) {
    const int g = threadIdx.x / (THREADS / GROUPS), t = g / 2;
    for (unsigned i = threadIdx.x % (THREADS / GROUPS); i < size[t]; i += THREADS / GROUPS)
        count(tile, s, g, tile.keys[t * tile.room + i]);
}

// The least and largest key of both lists, and how many there are of the first's, into s
__device__ __forceinline__ void survey(const Tile& tile, Selection& s, const unsigned size[2]) {
    if (threadIdx.x < 2) s.least[threadIdx.x] = LAST, s.most[threadIdx.x] = 0;
    if (threadIdx.x == 0) s.valid = 0;
    __syncthreads();
    for (int t = 0; t < 2; t++) {
        unsigned least = LAST, most = 0, valid = 0;
        for (unsigned i = threadIdx.x; i < size[t]; i += THREADS) {
            const unsigned key = tile.keys[t * tile.room + i];
            if (key == NONE) continue;
            valid++;
            least = min(least, key);
            most = max(most, key);
        }
        least = warp_min(least);
        most = ~warp_min(~most);
        if (t == 0) valid = warp_sum(valid);
        if (threadIdx.x % 32) continue;
        atomicMin(&s.least[t], least);
        atomicMax(&s.most[t], most);
        if (t == 0) atomicAdd(&s.valid, valid);
    }
    __syncthreads();
}

// A cut for each tail: the share's rank in a sample of the pixels, and `deviations` standard deviations more
template <class Keys>
__device__ __forceinline__ void sample(const Tile& tile, Selection& s, const Keys& keys, float share, float deviations) {
    const int step = tile.pixels / tile.room | 1;  // odd, so as not to walk in time with rows or with JPEG's blocks
    for (int i = threadIdx.x; i < tile.room; i += THREADS) {
        const long long pixel = (long long)i * step;
        unsigned key[2] = {NONE, NONE};
        if (pixel < tile.pixels) keys(tile.pixel((int)pixel), key);
        for (int t = 0; t < 2; t++) tile.keys[t * tile.room + i] = key[t];
    }
    __syncthreads();
    const unsigned size[2] = {(unsigned)tile.room, (unsigned)tile.room};
    survey(tile, s, size);
    const float expected = share * s.valid;
    const bool enough = s.valid >= 64;
    if (enough) {
        if (threadIdx.x < GROUPS) {
            const int g = threadIdx.x;
            s.from[g] = s.least[g / 2];
            s.to[g] = s.most[g / 2];
            s.rank[g] = min((unsigned)(expected + deviations * sqrtf(expected) + 3.0f), s.valid - 1);
        }
        select(tile, s, 2, [&] { scan_lists(tile, s, size); });  // 2: as near as it need be
    }
    if (threadIdx.x < 2) s.cut[threadIdx.x] = enough ? s.to[2 * threadIdx.x] : LAST;
    __syncthreads();
}

// Of both tails the keys of ranks `rank` and `rank` + 1, from 0, the last twice: found[tail][which]
template <class Keys>
__device__ __forceinline__ void order_statistics(const Tile& tile, Selection& s, const Keys& keys, unsigned population,
                                                 float share, unsigned rank, unsigned found[2][2]) {
    for (int attempt = 0;; attempt++) {
        if (attempt < 2) {
            sample(tile, s, keys, share, attempt ? 10.0f : 2.5f);
        } else {
            if (threadIdx.x < 2) s.cut[threadIdx.x] = LAST;
            __syncthreads();
        }
        const Planes planes = keys.planes(s.cut);
        if (threadIdx.x < 2) s.noted[threadIdx.x] = 0;
        __syncthreads();
        under(tile, planes, [&](int t, int i) {
            const unsigned place = atomicAdd(&s.noted[t], 1u);
            if (place < tile.room) tile.keys[t * tile.room + place] = i;
        });
        __syncthreads();
        const unsigned size[2] = {s.noted[0], s.noted[1]};
        const bool fits = size[0] <= tile.room && size[1] <= tile.room;
        if (fits) {  // numbers of pixels become keys
            for (int t = 0; t < 2; t++)
                for (unsigned i = threadIdx.x; i < size[t]; i += THREADS) {
                    unsigned* place = tile.keys + t * tile.room + i;
                    unsigned key[2];
                    keys(tile.pixel((int)*place), key);
                    *place = key[t];
                }
            __syncthreads();
            survey(tile, s, size);
        }
        if (threadIdx.x < GROUPS) {
            const int g = threadIdx.x;
            s.from[g] = fits ? s.least[g / 2] : 0;
            s.to[g] = s.cut[g / 2];
            s.rank[g] = min(rank + g % 2, population - 1);
        }
        if (fits)
            select(tile, s, 4, [&] { scan_lists(tile, s, size); });
        else
            select(tile, s, 4, [&] {
                under(tile, planes, [&](int t, int i) {
                    unsigned key[2];
                    keys(tile.pixel(i), key);
                    for (int g = 2 * t; g < 2 * t + 2; g++) count(tile, s, g, key[t]);
                });
            });
        bool all = true;  // of the ranks lie under the cuts
        for (int g = 0; g < GROUPS; g++) {
            found[g / 2][g % 2] = s.from[g];
            all &= s.from[g] != NONE;
        }
        __syncthreads();
        if (all) return;
    }
}
