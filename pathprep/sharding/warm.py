"""Imported once by the process that all workers are forked from, so that each starts with its code loaded.

Calls the tissue detection and every numba kernel on a small block, so that what is compiled, read from
the cache or imported on first use is so once, and not in each worker. Starts no thread and opens no
slide: a fork must find nothing half done.
"""

import contextlib
import sys
import traceback
from types import TracebackType

import numpy as np

from pathprep import stain
from pathprep.images import jpeg
from pathprep.kernels.tiling_cpu import cut
from pathprep.params.tissue import TissueParams
from pathprep.slides import outlines, tissue


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As ever; but a worker that starts as the run ends, and finds its semaphores gone, is no news."""
    gone = isinstance(error, FileNotFoundError | EOFError | ConnectionError)
    if not (gone and all("multiprocessing" in frame.filename for frame in traceback.extract_tb(trace))):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
with contextlib.suppress(ImportError):  # who opens a slide with it says that it is missing
    import cucim.clara  # noqa: F401

_block = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
tissue.segment(_block, 8.0, TissueParams())
_mask = np.zeros((64, 64), bool)
_mask[16:48, 16:48] = True
outlines.contours(_mask, 64, 64)
tissue.fractions(_mask, 64, 64, 1, 1, 64, 64)
jpeg.encode(_block, 90, "420")
_origins = np.zeros((1, 2), np.int32)
_tiles, _ = cut(_block, _origins, 64, 64)
cut(_block, _origins, 64, 32)
_read_only = _block.view()
_read_only.flags.writeable = False  # as pictures are that Pillow decodes: another signature for numba
cut(_read_only, _origins, 64, 64)
stain.apply(_tiles, stain.matrix(stain.fit(_tiles), stain.Target.default()) + 1e-9)
