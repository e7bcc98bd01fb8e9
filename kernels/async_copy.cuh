// Copies from the card's memory into shared memory that are all in flight at once, where the card has them (from
// sm_80 on); elsewhere a load and a store.

__device__ __forceinline__ void start_copy16(void* to, const void* from) {  // both aligned to 16 bytes
#if defined(CUDA_SHIM) || __CUDA_ARCH__ < 800
    *(uint4*)to = *(const uint4*)from;
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
#endif
}

// Waits for those of this thread; a barrier makes them everyone's
__device__ __forceinline__ void finish_copies() {
#if !defined(CUDA_SHIM) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
