"""Damage that a decoder does not notice: tiles are compared with the overview, which comes of other bytes.

A flipped bit in entropy-coded data often decodes without a warning, to a block of noise and another
colour from there on; JPEG 2000 decoders hardly ever complain at all; an entry of zero in a tile table is
a white tile. In a pyramid, the overview is read from another level, so that both would have to be
damaged alike. A slide of one level has no such second source, and what its decoder accepts is accepted;
so is noise whose mean colour is right, which a damaged JPEG 2000 tile can become.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import UnreadableSlide
from pathprep.slides.grid import Block, Grid
from pathprep.slides.readers.base import Pixels

# Grey levels, of a cell's mean in any channel. Over 73 undamaged slides of five kinds the largest was 11, and
# 22 with the overview shifted by one of its pixels.
GROSS = 40.0
# Cells are of about this side in stored pixels (half a native tile), and of at least so many of the
# overview's: levels are rounded to whole pixels, and may be off by one at the far end
CELL, CELL_OVERVIEW = 128, 6
# Every so many rows are summed; columns all
ROWS = 8


class Check:
    """Compares the tiles of one slide with its overview; ``tiles`` may be called from several threads.

    Tiles of less than CELL_OVERVIEW overview pixels (48 micrometres on all but small slides) are too small
    to be judged and pass.
    """

    def __init__(self, path: Path, overview: Pixels, width: int, height: int, plan: Grid) -> None:
        """
        Args:
            overview: (h, w, 3) uint8, of the whole slide.
            width, height: of the slide, level-0 pixels.
            plan: its grid.
        """
        self._path, self._overview, self._plan = path, overview, plan
        self._scale = overview.shape[1] / width, overview.shape[0] / height
        finest = int(plan.side * min(self._scale) / CELL_OVERVIEW)
        self._cells = min(max(1, round(plan.stored / CELL)), finest)

    def tiles(self, block: Block, pixels: Any, host: Callable[[Any], Pixels] = np.asarray) -> None:
        """Check the tiles of one block.

        Args:
            pixels: (T, stored, stored, 3) uint8, of numpy or CuPy.
            host: turns an array of theirs into numpy's.

        Raises:
            UnreadableSlide: a tile differs grossly from the overview.
        """
        if not self._cells:
            return
        for means, (column, row) in zip(host(self._means(pixels)), block.cells.tolist(), strict=True):
            x, y = column * self._plan.stride, row * self._plan.stride
            difference = float(np.abs(means - self._expected(x, y)).max())
            if difference > GROSS:
                raise UnreadableSlide(
                    f"{self._path}: the tile at {x},{y} differs from the overview of the slide by "
                    f"{difference:.0f} grey levels; the file is damaged there, copy it again from its source "
                    "(without `cross_check`, tiles are taken as they are)"
                )

    def _means(self, pixels: Any) -> Any:
        """(T, cells, cells, 3) mean colours."""
        count, n = len(pixels), self._cells
        side = pixels.shape[1] // n
        rows = pixels[:, : n * side].reshape(count, n, side, -1, 3)[:, :, ::ROWS, : n * side]
        sums = rows.sum(2, dtype=np.uint32).reshape(count, n, n, side, 3).sum(3)
        return sums / (rows.shape[2] * side)

    def _expected(self, x: int, y: int) -> npt.NDArray[np.float64]:
        """(cells, cells, 3) mean colours of the overview under a tile; x, y in level-0 pixels."""
        n = self._cells
        side = self._plan.stored // n * self._plan.side / self._plan.stored
        columns, across = _shares(x * self._scale[0], side * self._scale[0], n, self._overview.shape[1])
        rows, down = _shares(y * self._scale[1], side * self._scale[1], n, self._overview.shape[0])
        part = self._overview[rows, columns]
        means = (down @ part.reshape(len(part), -1)).reshape(n, -1, 3)
        return np.asarray(np.matmul(across, means))


@lru_cache(8192)  # a grid's rows and columns
def _shares(start: float, side: float, n: int, length: int) -> tuple[slice, npt.NDArray[np.float64]]:
    """``n`` cells of ``side`` from ``start`` on, along an axis of ``length`` pixels.

    Returns:
        The pixels that they touch, and (n, pixels) the share that each has in each cell's mean.
    """
    edges = start + side * np.arange(n + 1)
    first, last = int(edges[0]), min(length, int(np.ceil(edges[-1])))
    pixels = np.arange(first, last)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.maximum(shares, 0)
    return slice(first, last), shares / shares.sum(1, keepdims=True)
