"""Which mask of a folder belongs to which slide; what is missing or stands twice is said."""

from pathlib import Path

import pytest

from pathprep.errors import UsageError
from pathprep.slides.find import find
from pathprep.slides.find_masks import masks_for


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)  # no two alike: equal slides may share a mask
    return [folder / name for name in names]


@pytest.mark.parametrize(
    "name",
    [
        *("a.geojson", "a.GeoJSON", "a.geojson.gz", "a.json", "a.png", "a.TIF", "a.tiff", "a.bmp", "a.jpg"),
        *("a.svs.geojson", "a_mask.tiff"),
    ],
)
def test_names_of_masks(tmp_path: Path, name: str) -> None:
    (slide,) = touch(tmp_path, "a.svs")
    touch(tmp_path / "m", name, "ab.png", "a-tissue.png", "notes.txt")
    assert masks_for({slide: slide.stem}, tmp_path / "m") == {slide: tmp_path / "m" / name}


def test_a_mask_by_the_slides_own_name(tmp_path: Path) -> None:
    (slide,) = touch(tmp_path, "00.dcm")
    (mask,) = touch(tmp_path / "m", "1.2.840.png")
    assert masks_for({slide: "1.2.840"}, tmp_path / "m") == {slide: mask}


def test_a_json_beside_a_mask_is_none(tmp_path: Path) -> None:
    (slide,) = touch(tmp_path, "a.svs")
    touch(tmp_path / "m", "a.json", "a.geojson")
    assert masks_for({slide: slide.stem}, tmp_path / "m") == {slide: tmp_path / "m" / "a.geojson"}


def test_a_slide_is_not_its_own_mask(tmp_path: Path) -> None:
    slide, mask = touch(tmp_path, "a.tif", "a_mask.tif")
    assert masks_for({slide: slide.stem}, tmp_path) == {slide: mask}


@pytest.mark.parametrize(
    ("slides", "masks", "message"),
    [
        (["a.svs"], ["a.png", "a.geojson"], "several masks for a.svs: a.geojson, a.png; leave one"),
        (["a.svs"], ["a.png", "a_mask.tif"], "several masks for a.svs: a.png, a_mask.tif"),
        (["a.svs"], ["a.xml"], r"no mask \(.geojson, .png, .*\) for a \(1 slide\); a.xml is there, but"),
        (["a.svs", "b.svs"], ["a.png"], r"for b \(1 slide\)$"),
        (["a.svs", "a.tif"], ["a.png"], "a.png: would be the mask of .*a.svs and of .*a.tif; name each"),
    ],
)
def test_masks_that_are_not_plain(tmp_path: Path, slides: list[str], masks: list[str], message: str) -> None:
    there = touch(tmp_path, *slides)
    touch(tmp_path / "m", *masks)
    with pytest.raises(UsageError, match=message):
        masks_for({slide: slide.stem for slide in there}, tmp_path / "m")


def test_origins_of_a_csv_and_of_a_run(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "b.svs", "c.svs", "a.png", "b.png")
    csv = tmp_path / "slides.csv"
    csv.write_text("slide,mask,mask_origin\na.svs,a.png,bounds\nb.svs,b.png,\nc.svs,,\n")
    assert [source.mask_origin for source in find([csv])] == ["bounds", "auto", "auto"]
    found = find([csv], mask_origin="slide")
    assert [source.mask_origin for source in found] == ["bounds", "slide", "auto"]
    assert [source.inputs().get("mask_origin") for source in found] == ["bounds", "slide", None]
    csv.write_text("slide,mask,mask_origin\na.svs,a.png,left\n")
    with pytest.raises(UsageError, match="line 2: mask_origin 'left'; give auto, slide or bounds"):
        find([csv])
    with pytest.raises(UsageError, match="`mask_origin` bounds: no slide has a mask"):
        find([tmp_path / "a.svs"], mask_origin="bounds")
