"""Imported once by the process that all workers are forked from, so that each starts with its code loaded.

Calls every numba kernel on a small block, so that they are compiled (or read from the cache) once and
not by each worker. Starts no thread and opens no slide: a fork must find nothing half done.
"""

import numpy as np

from pathprep import pipeline as pipeline  # what the workers run
from pathprep import stain
from pathprep.kernels.tiling_cpu import cut

_block = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
_origins = np.zeros((1, 2), np.int32)
_tiles, _ = cut(_block, _origins, 64, 64)
cut(_block, _origins, 64, 32)
stain.normalize(_tiles, stain.fit(_tiles), stain.Target.default())
