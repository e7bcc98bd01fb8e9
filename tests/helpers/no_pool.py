"""A pytest plugin (-p helpers.no_pool): every CuPy array is an allocation of its own.

In CuPy's pool an array's neighbour is another array, and compute-sanitizer would not see that a kernel wrote
a little beyond its end.
"""

import cupy

cupy.cuda.set_allocator(None)
