"""How the CPU's kernels are compiled: cached on disk, without the GIL, and with the same pixels each time.

LLVM may not change the order of sums, nor fuse a product with one, as ``fastmath=True`` lets it: a function
that was compiled just now and the same one from numba's cache would differ in a grey level here and there.
"""

import numba as nb

jit = nb.njit(nogil=True, cache=True, error_model="numpy")
# For arithmetic on numbers that are finite, so that minimum and maximum compile to one instruction
jit_finite = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "ninf", "nsz"})
