// CUDA C++ on the CPU, as far as this project's kernels use it: for tests of arithmetic, indexing and
// barriers on machines without a GPU. Every CUDA thread of a block is a fiber; blocks run one after another.
// Fibers change at barriers only, so races stay hidden: compute-sanitizer on a card finds those. What does
// show: a barrier that some threads never reach (reported as a deadlock), a barrier that is missing (run
// the threads in another order), shared memory read before it is written (dynamic and static are poisoned
// before every block), and writes beyond the dynamic shared memory that was asked for.
//
// Dynamic shared memory is declared in the kernels as
//     extern __shared__ __align__(16) unsigned char dynamic_shared[];
// from which __init__.py takes the `__shared__`: what is left of those are the static variables.
#pragma once
#define CUDA_SHIM 1
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// Inside a function: one for all fibers, in a section whose ends the linker knows
#define __shared__ static __attribute__((section("shim_static")))
extern "C" __attribute__((weak, visibility("hidden"))) unsigned char __start_shim_static[], __stop_shim_static[];

struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uchar4 { unsigned char x, y, z, w; };
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

constexpr size_t SHIM_SHARED = 232448;  // a Hopper block's most, 227 KiB
constexpr size_t SHIM_CANARY = 256;
constexpr unsigned char SHIM_POISON = 0xCD;
alignas(1024) inline unsigned char dynamic_shared[SHIM_SHARED + SHIM_CANARY];

namespace shim {
constexpr size_t STACK = 64 * 1024;
struct Fiber { ucontext_t context; dim3 thread; bool done; };
struct Barrier { unsigned waiting = 0, generation = 0; };
inline ucontext_t scheduler;
inline std::vector<Fiber> fibers;
inline std::vector<char> stacks;
inline int current;
inline unsigned alive;
inline bool progress;
inline Barrier block;
inline std::vector<Barrier> warps;
inline std::vector<unsigned> warp_alive;
inline std::vector<uint64_t> slots;
inline void (*body)(void*);
inline void* body_data;

inline unsigned linear() { return current; }
inline void yield() { swapcontext(&fibers[current].context, &scheduler); }
inline void wait(Barrier& b, const unsigned& members) {
    unsigned mine = b.generation;
    b.waiting++;
    progress = true;
    while (b.generation == mine) {
        if (b.waiting >= members) { b.waiting = 0; b.generation++; progress = true; return; }
        yield();
    }
}
inline void entry() {
    body(body_data);
    Fiber& self = fibers[current];
    self.done = true;
    alive--;
    warp_alive[current / 32]--;
    progress = true;
    swapcontext(&self.context, &scheduler);
}
// 0: well; 1: threads wait at different barriers; 2: shared memory overrun
inline int run_block(unsigned shared, const std::vector<int>& order) {
    unsigned n = blockDim.x * blockDim.y * blockDim.z;
    memset(dynamic_shared, SHIM_POISON, sizeof dynamic_shared);
    memset(__start_shim_static, SHIM_POISON, __stop_shim_static - __start_shim_static);
    fibers.resize(n);
    stacks.resize(n * STACK);
    slots.assign(n, 0);
    alive = n;
    block = {};
    warps.assign((n + 31) / 32, {});
    warp_alive.assign((n + 31) / 32, 0);
    for (unsigned i = 0; i < n; i++) {
        Fiber& f = fibers[i];
        f.done = false;
        f.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        warp_alive[i / 32]++;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = &stacks[i * STACK];
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, entry, 0);
    }
    while (alive) {
        progress = false;
        for (int i : order) {
            if (fibers[i].done) continue;
            current = i;
            threadIdx = fibers[i].thread;
            swapcontext(&scheduler, &fibers[i].context);
        }
        if (!progress) return 1;
    }
    for (size_t i = shared; i < sizeof dynamic_shared; i++)
        if (dynamic_shared[i] != SHIM_POISON) return 2;
    return 0;
}
template <class T> T exchange(T value, int source) {
    static_assert(sizeof(T) <= 8);
    unsigned me = linear(), warp = me / 32;
    memcpy(&slots[me], &value, sizeof(T));
    wait(warps[warp], warp_alive[warp]);
    T found = value;
    unsigned from = warp * 32 + source;
    if (source >= 0 && source < 32 && from < slots.size()) memcpy(&found, &slots[from], sizeof(T));
    wait(warps[warp], warp_alive[warp]);
    return found;
}
template <auto F, class... A, size_t... I>
void call(void (*)(A...), void** args, std::index_sequence<I...>) {
    F(*static_cast<std::remove_reference_t<A>*>(args[I])...);
}
template <class... A> constexpr size_t arity(void (*)(A...)) { return sizeof...(A); }
template <auto F> void invoke(void* args) {
    call<F>(F, static_cast<void**>(args), std::make_index_sequence<arity(F)>{});
}
template <auto F>
int launch(const unsigned* grid, const unsigned* threads, unsigned shared, unsigned seed, void** args) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {threads[0], threads[1], threads[2]};
    if (shared > SHIM_SHARED) return 3;
    body = invoke<F>;
    body_data = args;
    std::vector<int> order(blockDim.x * blockDim.y * blockDim.z);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(seed);
    if (seed) for (size_t i = order.size() - 1; i > 0; i--) std::swap(order[i], order[random() % (i + 1)]);
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                if (int error = run_block(shared, order)) return error;
            }
    return 0;
}
}  // namespace shim

#define SHIM_EXPORT(kernel)                                                                               \
    extern "C" int shim_##kernel(const unsigned* grid, const unsigned* threads, unsigned shared,          \
                                 unsigned seed, void** args) {                                            \
        return shim::launch<kernel>(grid, threads, shared, seed, args);                                   \
    }

// Barriers and warps
inline void __syncthreads() { shim::wait(shim::block, shim::alive); }
inline int __syncthreads_count(int predicate) {
    static thread_local int count;
    __syncthreads();
    count = 0;
    __syncthreads();
    count += predicate != 0;
    __syncthreads();
    return count;
}
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) > 0; }
inline void __syncwarp(unsigned = ~0u) {
    unsigned warp = shim::linear() / 32;
    shim::wait(shim::warps[warp], shim::warp_alive[warp]);
}
template <class T> T __shfl_down_sync(unsigned, T v, int d) { return shim::exchange(v, int(shim::linear() % 32) + d); }
template <class T> T __shfl_up_sync(unsigned, T v, int d) { return shim::exchange(v, int(shim::linear() % 32) - d); }
template <class T> T __shfl_xor_sync(unsigned, T v, int m) { return shim::exchange(v, int(shim::linear() % 32) ^ m); }
template <class T> T __shfl_sync(unsigned, T v, int lane) { return shim::exchange(v, lane & 31); }
inline unsigned __ballot_sync(unsigned, int predicate) {
    unsigned found = 0;
    for (int lane = 0; lane < 32; lane++) found |= unsigned(shim::exchange(int(predicate != 0), lane)) << lane;
    return found;
}

// Atomics: fibers do not interrupt each other
template <class T, class U> T atomicAdd(T* p, U v) { T old = *p; *p = T(*p + T(v)); return old; }
template <class T, class U> T atomicMin(T* p, U v) { T old = *p; if (T(v) < old) *p = T(v); return old; }
template <class T, class U> T atomicMax(T* p, U v) { T old = *p; if (T(v) > old) *p = T(v); return old; }
template <class T, class U> T atomicOr(T* p, U v) { T old = *p; *p = T(old | T(v)); return old; }
template <class T, class U> T atomicExch(T* p, U v) { T old = *p; *p = T(v); return old; }

// Arithmetic
template <class T> T __ldg(const T* p) { return *p; }
template <class T> T __ldcs(const T* p) { return *p; }
template <class T> void __stcs(T* p, T v) { *p = v; }
inline unsigned __float_as_uint(float v) { unsigned u; memcpy(&u, &v, 4); return u; }
inline int __float_as_int(float v) { int u; memcpy(&u, &v, 4); return u; }
inline float __uint_as_float(unsigned v) { float f; memcpy(&f, &v, 4); return f; }
inline float __int_as_float(int v) { float f; memcpy(&f, &v, 4); return f; }
inline float __log2f(float v) { return log2f(v); }
inline float __exp2f(float v) { return exp2f(v); }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((uint64_t(high) << 32) | low) >> (shift & 31));
}
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fadd_rz(float a, float b) {
    double exact = double(a) + b;
    float near = float(exact);
    return std::fabs(double(near)) > std::fabs(exact) ? nextafterf(near, 0.0f) : near;
}
inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
inline int __float2int_rn(float v) { return int(nearbyintf(v)); }
inline int __float2int_rz(float v) { return int(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
    uint64_t both = (uint64_t(b) << 32) | a;
    unsigned found = 0;
    for (int i = 0; i < 4; i++) found |= unsigned(both >> (8 * ((select >> (4 * i)) & 7)) & 255) << (8 * i);
    return found;
}
template <class T, class U> auto min(T a, U b) -> std::common_type_t<T, U> { using C = std::common_type_t<T, U>; return C(b) < C(a) ? C(b) : C(a); }
template <class T, class U> auto max(T a, U b) -> std::common_type_t<T, U> { using C = std::common_type_t<T, U>; return C(a) < C(b) ? C(b) : C(a); }
inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }
