// A table of 256 entries in shared memory, a number for each grey level, and looking pixels up in it.
//
// Every entry has COPIES copies side by side, one for each lane of a warp, or of a half warp: then at most two lanes
// meet in a bank. The table is the first in dynamic shared memory, so that its address is known when this is compiled,
// and a look-up is a shift, one logical operation and a load. "Offset" is where an entry's copy lies, in bytes.

#define TABLE_BYTES (4 * 256 * COPIES)
#define LEVEL_SHIFT (COPIES == 32 ? 7 : 6)

// Writes the table, by the warps from `first` on; what was read from it before, and will be, is behind barriers
template <class Value> __device__ __forceinline__ void fill_table(int first, Value value) {
    for (int i = (int)threadIdx.x - 32 * first; i < 256 * COPIES; i += THREADS - 32 * first)
        if (i >= 0) ((int*)dynamic_shared)[i] = value(i / COPIES);
}

// The low bits of all offsets of a thread: its copy
__device__ __forceinline__ unsigned own_copy() { return 4 * (threadIdx.x % COPIES); }

// Of one of the four levels in a word
__device__ __forceinline__ unsigned offset(unsigned copy, unsigned word, int which) {
    return ((which ? word >> (8 * which - LEVEL_SHIFT) : word << LEVEL_SHIFT) & (255u << LEVEL_SHIFT)) | copy;
}
__device__ __forceinline__ unsigned offset(byte level) { return (unsigned)level << LEVEL_SHIFT | own_copy(); }

__device__ __forceinline__ int whole(unsigned offset) { return *(const int*)(dynamic_shared + offset); }
__device__ __forceinline__ float number(unsigned offset) { return *(const float*)(dynamic_shared + offset); }

// Sixteen pixels in twelve words: calls work(k, offsets of red, green and blue) for each
template <class Work> __device__ __forceinline__ void sixteen(const uint4 part[3], Work work) {
    const unsigned word[12] = {part[0].x, part[0].y, part[0].z, part[0].w, part[1].x, part[1].y,
                               part[1].z, part[1].w, part[2].x, part[2].y, part[2].z, part[2].w};
    const unsigned copy = own_copy();
    #pragma unroll
    for (int k = 0; k < 16; k++) {
        const int b = 3 * k;
        work(k, offset(copy, word[b / 4], b % 4), offset(copy, word[(b + 1) / 4], (b + 1) % 4),
             offset(copy, word[(b + 2) / 4], (b + 2) % 4));
    }
}

// Step 7 of macenko_reference.py on sixteen pixels; m, scale: see transform in grey.cuh
__device__ __forceinline__ void transform16(const float m[9], const float scale[3], uint4 part[3]) {
    unsigned word[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    sixteen(part, [&](int k, unsigned r, unsigned g, unsigned b) {
        unsigned out[3];
        transform(m, scale, number(r), number(g), number(b), out);
        #pragma unroll
        for (int c = 0; c < 3; c++) word[(3 * k + c) / 4] |= out[c] << 8 * ((3 * k + c) % 4);
    });
    #pragma unroll
    for (int k = 0; k < 3; k++) part[k] = make_uint4(word[4 * k], word[4 * k + 1], word[4 * k + 2], word[4 * k + 3]);
}
