"""The part of a slide that was scanned: the same from every reader, None where it is the whole."""

from pathlib import Path

import pytest
from helpers.bounded import without_tiles

from pathprep.slides.readers.base import Bounds
from pathprep.slides.slide import Slide


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
