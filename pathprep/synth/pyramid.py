"""Writes a square JPEG pyramid while it is being drawn: no level is ever held as pixels.

The base level is drawn in chunks of one tile row by a few tile columns, each chunk encoded and
reduced by the worker that drew it. The reduced rows feed the next level, which feeds its next, and
their encoded tiles wait in unnamed temporary files until the base level is on disk, because TIFF
levels follow each other. Memory: a few chunks plus one tile row per reduced level.

Layout: tiled baseline JPEG, YCbCr 4:2:0 as scanners write it, chained IFDs (not SubIFDs, of which
cuCIM sees none), resolution tags per centimetre.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile

from pathprep.storage import atomic

Pixels = npt.NDArray[np.uint8]
Draw = Callable[[int, int, Pixels], None]  # fills (H, W, 3) with the slide's pixels from (x, y) on

STEP = 4  # each level is the average of 4 x 4 pixels of the one before
MAX_DOWNSAMPLE = 64
MIN_LEVEL_SIDE = 256  # a smaller level would be less than a tile or two
QUALITY = 90
# About as many pixels in a chunk whatever the tile: large enough to amortise a call (0.1 ms), small
# enough that every worker is busy on the smallest slides.
CHUNK_SIDE = 1920
# The pyramid's JPEGs take under a byte per base pixel (H&E: 0.2), and classic TIFF ends at 4 GiB
BIG_PIXELS = 3 << 30


def downsamples(size: int) -> list[int]:
    """Downsample of every level, from 1 on, for a slide of ``size`` px."""
    found = [1]
    while found[-1] < MAX_DOWNSAMPLE and size // (found[-1] * STEP) >= MIN_LEVEL_SIDE:
        found.append(found[-1] * STEP)
    return found


def reduce(pixels: Pixels) -> Pixels:
    """Average of 4 x 4 pixels, rounded: (H, W, 3) to (H / 4, W / 4, 3); H and W are multiples of 4."""
    rows = pixels[::STEP].astype(np.uint16)
    for row in range(1, STEP):
        rows += pixels[row::STEP]
    total = rows[:, ::STEP] + rows[:, 1::STEP] + rows[:, 2::STEP] + rows[:, 3::STEP]
    return ((total + 8) >> 4).astype(np.uint8)


def encode(pixels: Pixels, tile: int) -> list[bytes]:
    """One tile row, (tile, n * tile, 3), as n JPEG streams that carry their own tables."""
    return [
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels[:, x : x + tile]),
            quality=QUALITY,
            colorspace="RGB",
            colorsubsampling="420",
        )
        for x in range(0, pixels.shape[1], tile)
    ]


class _Reduced:
    """A level below the base: collects rows, spools encoded tiles, feeds the level after it."""

    def __init__(self, size: int, tile: int, folder: Path, following: "_Reduced | None") -> None:
        self.size, self.tile, self.following = size, tile, following
        columns = -(-size // tile)
        self.rows = np.empty((tile, columns * tile, 3), np.uint8)
        self.filled = 0
        self.done = 0
        self.spool: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self.lengths: list[int] = []

    def push(self, rows: Pixels) -> None:
        """Take the next rows, at least ``size`` wide unless the padding is wider; a tile row takes a
        whole number of pushes because a tile's side is a multiple of 16."""
        width = min(rows.shape[1], self.rows.shape[1])
        part = self.rows[self.filled : self.filled + len(rows)]
        part[:, :width] = rows[:, :width]
        part[:, width:] = rows[:, width - 1 : width]
        self.filled += len(rows)
        if self.filled == self.tile:
            self._emit()

    def _emit(self) -> None:
        self.filled = 0
        if self.done * self.tile >= self.size:
            return  # padding of the base level below the last row of this one
        self.done += 1
        for data in encode(self.rows, self.tile):
            self.spool.write(data)
            self.lengths.append(len(data))
        if self.following is not None:
            self.following.push(reduce(self.rows))

    def finish(self) -> None:
        """Fill the last tile row by repeating its last row; then no rows may follow."""
        if self.filled:
            self.rows[self.filled :] = self.rows[self.filled - 1]
            self._emit()

    def tiles(self) -> Iterator[bytes]:
        self.spool.seek(0)
        for length in self.lengths:
            yield self.spool.read(length)

    def close(self) -> None:
        self.spool.close()


def _base(
    size: int, tile: int, workers: int, draw: Draw, below: _Reduced | None, row_done: Callable[[], None]
) -> Iterator[bytes]:
    """Encoded tiles of the base level in file order; pushes the reduced rows to ``below`` on the way."""
    count = -(-size // tile)
    per_chunk = max(1, CHUNK_SIDE // tile)
    chunks = [(row, column) for row in range(count) for column in range(0, count, per_chunk)]

    def work(row: int, column: int) -> tuple[list[bytes], Pixels | None]:
        columns = min(per_chunk, count - column)
        pixels = np.empty((tile, columns * tile, 3), np.uint8)
        draw(column * tile, row * tile, pixels)
        return encode(pixels, tile), None if below is None else reduce(pixels)

    line: list[Pixels] = []
    pending: deque[Future[tuple[list[bytes], Pixels | None]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            ahead = iter(chunks)
            for _, column in chunks:
                while len(pending) < 4 * workers and (chunk := next(ahead, None)) is not None:
                    pending.append(pool.submit(work, *chunk))
                encoded, reduced = pending.popleft().result()
                if below is not None and reduced is not None:
                    line.append(reduced)
                # before the tiles: whoever takes them does not come back after the last
                if column + per_chunk >= count:
                    if below is not None:
                        below.push(np.concatenate(line, axis=1))
                        line.clear()
                    row_done()
                yield from encoded
        finally:
            for future in pending:
                future.cancel()


def write(
    path: Path,
    *,
    size: int,
    tile: int,
    mpp: float,
    description: str,
    draw: Draw,
    workers: int = 1,
    row_done: Callable[[], None] = lambda: None,
) -> None:
    """Write the pyramid of a ``size`` x ``size`` slide to ``path``, atomically.

    ``draw(x, y, out)`` is called from ``workers`` threads, in any order, also for the padding right
    of and below the slide; the file's bytes do not depend on ``workers``. ``tile`` is a multiple of
    16 (TIFF's own rule), ``mpp`` in micrometres. ``row_done`` is called after each tile row.
    """
    scales = downsamples(size)
    levels: list[_Reduced] = []
    for scale in reversed(scales[1:]):
        levels.insert(0, _Reduced(size // scale, tile, path.parent, levels[0] if levels else None))
    try:
        big = size * size >= BIG_PIXELS
        with (
            atomic.pending(path) as (file, temporary),
            tifffile.TiffWriter(file, bigtiff=big) as tiff,
        ):
            for index, scale in enumerate(scales):
                if index:
                    levels[index - 1].finish()
                    tiles = levels[index - 1].tiles()
                else:
                    tiles = _base(size, tile, workers, draw, levels[0] if levels else None, row_done)
                side = size // scale
                tiff.write(
                    tiles,
                    shape=(side, side, 3),
                    dtype=np.uint8,
                    tile=(tile, tile),
                    compression="jpeg",  # the tiles are JPEG already
                    photometric="ycbcr",
                    subsampling=(2, 2),
                    resolution=(1e4 / (mpp * scale),) * 2,
                    resolutionunit="CENTIMETER",
                    subfiletype=int(index > 0),
                    description=description if index == 0 else None,
                    software=False,
                    metadata=None,
                )
        atomic.publish(temporary, path)
    finally:
        for level in levels:
            level.close()
