// A tile in shared memory: how it comes and goes, a walk over its pixels, and the table of its optical density.
//
//   shared memory    table 16,384 | bins 4,096 | keys, two lists | the tile's pixels, or a piece of them
//
// The table has 16 copies: all that there is room for.

#define COPIES 16
#include "table.cuh"
#include "async_copy.cuh"

#define BINS 256
#define GROUPS 4                  // selections at once: two tails, a rank and the next
#define WARPS (THREADS / 32)
#define BINS_BYTES (4 * GROUPS * BINS)

struct Tile {
    const byte* source;
    int pixels;
    int capacity;        // pixels that the shared memory holds, a multiple of 16
    int room;            // keys that a list holds
    byte* held;          // shared memory: pixels
    unsigned* keys;      // [2][room]
    unsigned* bins;      // [GROUPS][BINS]
    bool resident;       // the whole tile is in shared memory

    __device__ __forceinline__ const byte* pixel(int i) const { return (resident ? held : source) + 3ll * i; }
};

// Whole vectors of 16 bytes. Four loads come before their stores: the compiler cannot know that the stores leave
// alone what is loaded
__device__ __forceinline__ void copy_vectors(uint4* to, const uint4* from, int vectors) {
    for (int i = threadIdx.x; i < vectors; i += 4 * THREADS) {
        uint4 four[4];
        #pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k * THREADS < vectors) four[k] = from[i + k * THREADS];
        #pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k * THREADS < vectors) to[i + k * THREADS] = four[k];
    }
}

// The same into shared memory; finish_copies and a barrier before it is read
__device__ __forceinline__ void start_copies(byte* to, const byte* from, int vectors) {
#if defined(CUDA_SHIM) || __CUDA_ARCH__ < 800
    copy_vectors((uint4*)to, (const uint4*)from, vectors);
#else
    #pragma unroll 4
    for (int i = threadIdx.x; i < vectors; i += THREADS) start_copy16(to + 16 * i, from + 16ll * i);
#endif
}

// Four bytes at any address, by the aligned words that hold them
__device__ __forceinline__ unsigned word_at(const byte* from) {
    const unsigned shift = (unsigned)(address)from & 3;
    const unsigned* word = (const unsigned*)(from - shift);
    return shift ? __funnelshift_r(word[0], word[1], 8 * shift) : word[0];
}

// From and to any address, in whole words but for the ends: no word is read that holds no byte of `from`
__device__ __forceinline__ void copy_words(byte* to, const byte* from, int bytes) {
    const int head = min(bytes, (int)(0u - (unsigned)(address)to & 3)), words = max(bytes - head - 3, 0) / 4;
    for (int i = threadIdx.x; i < head; i += THREADS) to[i] = from[i];
    #pragma unroll 4
    for (int i = threadIdx.x; i < words; i += THREADS) ((unsigned*)(to + head))[i] = word_at(from + head + 4 * i);
    for (int i = head + 4 * words + threadIdx.x; i < bytes; i += THREADS) to[i] = from[i];
}

// Pixels into shared memory, likewise
__device__ __forceinline__ void bring(const Tile& tile, const byte* from, int bytes) {
    if ((address)from & 15) {
        copy_words(tile.held, from, bytes);
        return;
    }
    start_copies(tile.held, from, bytes / 16);
    for (int i = bytes / 16 * 16 + threadIdx.x; i < bytes; i += THREADS) tile.held[i] = from[i];
}

__device__ __forceinline__ void send(const Tile& tile, byte* to, int bytes) {
    if ((address)to & 15) {
        copy_words(to, tile.held, bytes);
        return;
    }
    copy_vectors((uint4*)to, (const uint4*)tile.held, bytes / 16);
    for (int i = bytes / 16 * 16 + threadIdx.x; i < bytes; i += THREADS) to[i] = tile.held[i];
}

// Calls work(first pixel, pixels) with those pixels in shared memory; a tile that stays there is not read again
template <class Work> __device__ __forceinline__ void pieces(const Tile& tile, Work work) {
    for (int start = 0; start < tile.pixels; start += tile.capacity) {
        int n = min(tile.pixels - start, tile.capacity);
        if (!tile.resident) {
            __syncthreads();  // the piece before is still being worked on
            bring(tile, tile.source + 3ll * start, 3 * n);
            finish_copies();
            __syncthreads();
        }
        work(start, n);
    }
}

// Of n pixels in shared memory: many(sixteen pixels, the first's number), one(pixel, its number) for the last few
template <class Many, class One>
__device__ __forceinline__ void walk(const Tile& tile, int n, Many many, One one) {
    for (int i = threadIdx.x; i < n / 16; i += THREADS) {
        uint4 part[3];
        #pragma unroll
        for (int k = 0; k < 3; k++) part[k] = ((const uint4*)tile.held)[3 * i + k];
        many(part, 16 * i);
    }
    for (int i = n / 16 * 16 + threadIdx.x; i < n; i += THREADS) one(tile.held + 3 * i, i);
}

template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (int d = 16; d; d >>= 1) value += __shfl_down_sync(~0u, value, d);
    return value;
}

__device__ __forceinline__ unsigned warp_min(unsigned value) {
    for (int d = 16; d; d >>= 1) value = min(value, __shfl_down_sync(~0u, value, d));
    return value;
}

// Sums over the block of ten numbers of each thread; the bins serve as scratch. In a warp every exchange halves
// how many numbers a lane has: lanes 2k and 2k + 1 end with the sum of number k.
__device__ __forceinline__ void block_sums(const Tile& tile, const long long own[10], long long* sums) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    long long* partial = (long long*)tile.bins;  // [WARPS][10]
    long long left[16];
    #pragma unroll
    for (int k = 0; k < 16; k++) left[k] = k < 10 ? own[k] : 0;
    #pragma unroll
    for (int half = 8; half; half >>= 1) {
        const bool upper = lane & (2 * half);
        #pragma unroll
        for (int k = 0; k < half; k++) {
            const long long other = __shfl_xor_sync(~0u, upper ? left[k] : left[k + half], 2 * half);
            left[k] = (upper ? left[k + half] : left[k]) + other;
        }
    }
    left[0] += __shfl_xor_sync(~0u, left[0], 1);
    __syncthreads();
    if (lane % 2 == 0 && lane < 20) partial[warp * 10 + lane / 2] = left[0];
    __syncthreads();
    for (int k = warp; k < 10; k += WARPS) {
        const long long sum = warp_sum(lane < WARPS ? partial[lane * 10 + k] : 0ll);
        if (lane == 0) sums[k] = sum;
    }
    __syncthreads();
}
