"""A slide of which a part was scanned: masks in their place, and what is written can be given back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.bounded import without_tiles
from helpers.drawings import box, collection, polygon, qupath
from helpers.slides import tissue, write_tiff

from pathprep.dataset.marker import SlideMarker, read_sealed, same_inputs
from pathprep.dataset.reader import Dataset
from pathprep.errors import MaskError
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.reports import slide_pictures
from pathprep.sharding import pipeline
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.sharding.repair import source_of
from pathprep.slides.find import SlideSource
from pathprep.slides.readers.base import Bounds

PARAMS = ShardParams(tile=64, region=256, stain=StainParams("none"))
BOUNDS = Bounds(128, 256, 772, 444)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_tiles(tmp_path_factory.mktemp("slides") / "a.tif", 128, {0}, {0, 1})


def shard(root: Path, path: Path, mask: Path, **options: Any) -> tuple[SlideMarker, set[tuple[int, int]]]:
    """The marker, and the corners of the tiles."""
    source = SlideSource(path, name="s", mask=mask, **options)
    pipeline.process(ShardTask(root, source, PARAMS, prepare(root, PARAMS, rebuild=False)))
    marker = read_sealed(root / "slides/s.json")
    assert isinstance(marker, SlideMarker)
    return marker, {(row["x"], row["y"]) for row in Dataset(root).table("s").to_pylist()}


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """192 px a side at 192,128 of what QuPath shows: 320,384 of the slide."""
    path = tmp_path / "m.geojson"
    path.write_text(json.dumps(collection(qupath(polygon(box(192, 128, 192)), "Tumor"))))
    return path


def square(x: int, y: int) -> set[tuple[int, int]]:
    return {(x + 64 * column, y + 64 * row) for column in range(3) for row in range(3)}


def test_the_origin_that_is_asked_for(tmp_path: Path, slide: Path, drawn: Path) -> None:
    with pytest.raises(MaskError, match="does not say which origin .* begin at 128,256"):
        shard(tmp_path / "auto", slide, drawn)
    marker, tiles = shard(tmp_path / "bounds", slide, drawn, mask_origin="bounds")
    assert tiles == square(320, 384)
    assert marker.bounds == BOUNDS
    assert marker.mask is not None
    assert (marker.mask.origin, marker.mask.origin_source) == ("bounds", "mask_origin")
    assert marker.inputs["mask_origin"] == source_of(marker.slide, marker).mask_origin == "bounds"
    other, tiles = shard(tmp_path / "slide", slide, drawn, mask_origin="slide")
    assert tiles == square(192, 128)
    assert other.mask is not None
    assert "is it the wrong way round, or of another slide or origin" in other.mask.notes[0]  # half is white
    assert not same_inputs(marker, other.inputs)


def test_an_origin_without_an_effect_makes_no_slide_again(tmp_path: Path, drawn: Path) -> None:
    whole = write_tiff(tmp_path / "b.tif", tissue(700, 900))
    marker, tiles = shard(tmp_path / "d", whole, drawn, mask_origin="bounds")
    assert (marker.bounds, tiles) == (None, square(192, 128))
    assert marker.mask is not None
    assert marker.mask.origin_source == "the slide has one origin"
    source = source_of(marker.slide, marker)
    assert same_inputs(marker, source.inputs())
    assert same_inputs(marker, replace(source, mask_origin="slide").inputs())
    assert not same_inputs(marker, replace(source, mask=None).inputs())


def test_what_is_written_is_in_its_place_and_can_be_given_back(
    tmp_path: Path, slide: Path, drawn: Path
) -> None:
    _, tiles = shard(tmp_path / "first", slide, drawn, mask_origin="bounds")
    outline = tmp_path / "first/previews/s.geojson"
    written = json.loads(outline.read_text())
    assert written["pathprep"] == {"origin": "bounds", "corner": [128, 256]}
    ring = written["features"][0]["geometry"]["coordinates"][0]
    assert [min(x for x, _ in ring), min(y for _, y in ring)] == pytest.approx([192, 128], abs=1)
    # on the page, which shows the whole slide
    path = slide_pictures._contour(Dataset(tmp_path / "first").storage, "previews/s.geojson", 1.0)
    x, y = map(int, path[1 : path.index("l")].split())
    assert x in range(318, 515)
    assert y in range(382, 579)
    for asked in ("auto", "slide"):  # what the file says counts
        marker, again = shard(tmp_path / asked, slide, outline, mask_origin=asked)
        assert again == tiles
        assert marker.mask is not None
        assert (marker.mask.origin, marker.mask.origin_source) == ("bounds", "stated in the file")
