"""Slides of any number of tiles in a small file: all tiles of the TIFF are a few places of it."""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg

from helpers.slides import tissue

NATIVE, STEP = 256, 4
GLASS = 240
LEVELS = 4  # of downsample 1, 4, 16, 64


def write_sparse(path: Path, *, across: int, tile: int, mpp: float = 0.5) -> Path:
    """A square of tissue of ``across`` x ``across`` tiles of ``tile`` px, with glass around it; a BigTIFF.

    Every level shows the same: that of the tissue's one native tile, reduced and repeated.
    """
    block = NATIVE * STEP**2  # a native tile of the third level: up to there each is all tissue or all glass
    inside = -(-across * tile // block) * block
    side = inside + 2 * block
    stained = tissue(NATIVE, NATIVE, seed=1)
    blobs: list[bytes] = []
    pages = []
    for level in range(LEVELS):
        width = side // STEP**level
        count = -(-width // NATIVE)
        if STEP**level * NATIVE <= block:
            numbers = np.full((count, count), len(blobs) + 1)
            first, last = block // STEP**level // NATIVE, (block + inside) // STEP**level // NATIVE
            numbers[first:last, first:last] = len(blobs)
            blobs += [_jpeg(_reduced(stained, level)), _jpeg(np.full((NATIVE, NATIVE, 3), GLASS, np.uint8))]
        else:
            numbers = np.arange(count * count).reshape(count, count) + len(blobs)
            blobs += _drawn(stained, level, width, block // STEP**level, (block + inside) // STEP**level)
        pages.append((width, numbers))
    _write(path, pages, blobs, mpp)
    return path


def _reduced(pixels: npt.NDArray[np.uint8], level: int) -> npt.NDArray[np.uint8]:
    """A native tile of a level that lies in tissue."""
    factor = STEP**level
    small = pixels.reshape(NATIVE // factor, factor, NATIVE // factor, factor, 3).mean((1, 3))
    return np.tile(np.round(small).astype(np.uint8), (factor, factor, 1))


def _drawn(stained: npt.NDArray[np.uint8], level: int, width: int, first: int, last: int) -> list[bytes]:
    """The tiles of a level whose tiles are in part tissue."""
    count = -(-width // NATIVE)
    found = []
    for number in range(count * count):
        y, x = number // count * NATIVE, number % count * NATIVE
        pixels = _reduced(stained, level)
        rows, columns = (np.arange(NATIVE) + start for start in (y, x))
        glass = ((rows < first) | (rows >= last))[:, None] | ((columns < first) | (columns >= last))[None]
        pixels[glass] = GLASS
        found.append(_jpeg(pixels))
    return found


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 80, "RGB", "420")


def _write(
    path: Path, pages: list[tuple[int, npt.NDArray[np.int64]]], blobs: list[bytes], mpp: float
) -> None:
    """BigTIFF: header, the JPEGs, then a directory and its two tables for each level."""
    data = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    places, sizes = [], []
    for blob in blobs:
        places.append(len(data))
        sizes.append(len(blob))
        data += blob + bytes(-len(blob) % 8)
    link = 8  # where the place of the next directory stands
    per_cm = struct.pack("<II", round(10_000 / mpp * 1000), 1000)
    for level, (width, numbers) in enumerate(pages):
        count = numbers.size
        tables = []
        for values in (places, sizes):
            table = np.array(values, "<u8")[numbers.ravel()].tobytes()
            tables.append(struct.pack("<Q", len(data)) if count > 1 else table)  # one stands in its tag
            data += table
        tags: list[tuple[int, int, int, bytes]] = [
            (254, 4, 1, struct.pack("<I", 1 if level else 0)),
            (256, 4, 1, struct.pack("<I", width)),
            (257, 4, 1, struct.pack("<I", width)),
            (258, 3, 3, struct.pack("<HHH", 8, 8, 8)),
            (259, 3, 1, struct.pack("<H", 7)),
            (262, 3, 1, struct.pack("<H", 6)),
            (277, 3, 1, struct.pack("<H", 3)),
            (282, 5, 1, per_cm),
            (283, 5, 1, per_cm),
            (284, 3, 1, struct.pack("<H", 1)),
            (296, 3, 1, struct.pack("<H", 3)),
            (322, 3, 1, struct.pack("<H", NATIVE)),
            (323, 3, 1, struct.pack("<H", NATIVE)),
            (324, 16, count, tables[0]),
            (325, 16, count, tables[1]),
            (530, 3, 2, struct.pack("<HH", 2, 2)),
        ]
        struct.pack_into("<Q", data, link, len(data))
        data += struct.pack("<Q", len(tags))
        for tag, kind, number, value in tags:
            data += struct.pack("<HHQ", tag, kind, number) + value.ljust(8, b"\0")
        link = len(data)
        data += bytes(8)
    path.write_bytes(data)
