"""Slides of which only a part was scanned."""

from pathlib import Path

import tifffile

from helpers.slides import tissue, write_tiff


def without_tiles(path: Path, tile: int, columns: set[int], rows: set[int]) -> Path:
    """A slide of 700 x 900 px that lacks the native tiles of some columns and rows."""
    write_tiff(path, tissue(700, 900), tile=tile)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        counts = list(page.databytecounts)
        across = -(-page.imagewidth // tile)
        tag = page.tags["TileByteCounts"]
        at, size = tag.valueoffset, tag.dtype.name
    assert size == "LONG"
    new = [0 if n % across in columns or n // across in rows else count for n, count in enumerate(counts)]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"".join(count.to_bytes(4, "little") for count in new))
    return path
