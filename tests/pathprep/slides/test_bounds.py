"""The part of a slide that was scanned: the same from every reader, None where it is the whole."""

from pathlib import Path

import pytest
import tifffile
from helpers.slides import tissue, write_tiff

from pathprep.slides.readers.base import Bounds
from pathprep.slides.slide import Slide


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


@pytest.mark.parametrize(
    ("columns", "rows", "bounds"),
    [
        (set(), set(), None),
        ({0}, {0, 1}, Bounds(128, 256, 772, 444)),
        ({0, 7}, {5}, Bounds(128, 0, 768, 640)),
        ({3}, set(), None),
    ],
)
def test_native_tiles_that_are_absent(
    tmp_path: Path, columns: set[int], rows: set[int], bounds: Bounds | None
) -> None:
    path = without_tiles(tmp_path / "a.tif", 128, columns, rows)
    with Slide(path) as ours, Slide(path, "openslide") as peer:
        assert (ours.reader, ours.bounds, peer.bounds) == ("tiff", bounds, bounds)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("made/cmu.scn", Bounds(222, 296, 2220, 2967)),
        ("real/mask-pyramid.tif", Bounds(0, 512, 3072, 3456)),
        ("made/cmu-trestle.tif", None),
        ("dicom-pyramid/00.dcm", None),
    ],
)
def test_real_slides(data: Path, name: str, bounds: Bounds | None) -> None:
    path = data / "formats" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with Slide(path) as slide:
        assert slide.bounds == bounds
