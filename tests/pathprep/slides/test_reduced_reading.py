"""Levels that are reduced while they are decoded: the means of their pixels, at no other place."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
import tifffile
from helpers.damaged_slides import write_base
from helpers.slides import Pixels, tissue, write_tiff
from scipy.ndimage import gaussian_filter

from pathprep.errors import UnreadableSlide
from pathprep.slides.slide import Slide


def written(path: Path, pixels: Pixels, colours: str, tile: int = 128) -> Path:
    """A slide of one level with these colours (444, 422, 420)."""
    height, width, _ = pixels.shape
    parts = (
        simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[y : y + tile, x : x + tile]), 95, "RGB", colours)
        for y in range(0, height, tile)
        for x in range(0, width, tile)
    )
    subsampling = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}[colours]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            parts,
            shape=pixels.shape,
            dtype=np.uint8,
            tile=(tile, tile),
            photometric="ycbcr",
            subsampling=subsampling,
            compression="jpeg",
            metadata=None,
        )
    return path


def means(pixels: Pixels, by: int) -> npt.NDArray[np.float64]:
    """(h / by, w / by, 3) means of by x by pixels."""
    height, width, _ = pixels.shape
    return pixels.reshape(height // by, by, width // by, by, 3).mean((1, 3))


@pytest.mark.parametrize("by", [2, 4, 8])
def test_the_means_of_its_pixels(tmp_path: Path, by: int) -> None:
    """But for the rounding of each: colours are stored at full size here."""
    pixels = tissue(256, 384, seed=2)
    with Slide(written(tmp_path / "s.tif", pixels, "444"), "tiff") as slide:
        assert slide.reduction(0) == 8
        whole, found = slide.read(0, 0, 0, 384, 256), slide.read(0, 0, 0, 384 // by, 256 // by, by)
    difference = np.abs(found - means(whole, by))
    assert difference.mean() < 0.5
    assert difference.max() < 2.5


@pytest.mark.parametrize("colours", ["422", "420"])
@pytest.mark.parametrize("by", [2, 4, 8])
def test_nearly_the_means_where_colours_are_stored_at_half(tmp_path: Path, by: int, colours: str) -> None:
    """Neither shifted nor of other colours: the means of shifted ones are further off."""
    pixels = gaussian_filter(tissue(256, 256, seed=3), (1, 1, 0))
    with Slide(written(tmp_path / "s.tif", pixels, colours), "tiff") as slide:
        whole, found = slide.read(0, 0, 0, 256, 256), slide.read(0, 0, 0, 256 // by, 256 // by, by)
    difference = np.abs(found - means(whole, by)).mean()
    assert difference < 1.5
    assert np.abs(found.mean((0, 1)) - whole.mean((0, 1))).max() < 0.5
    for axis in (0, 1):
        assert np.abs(found - means(np.roll(whole, by // 2, axis), by)).mean() > 1.5 * difference


@pytest.mark.realdata
def test_real_slides_differ_from_the_means_as_is_said(data: Path) -> None:
    for path in (data / "slides" / "CMU-1-Small-Region.svs", *sorted((data / "cohort").glob("*.tif"))[:6]):
        with Slide(path) as slide:
            side = min(1024, slide.width, slide.height) // 16 * 16
            whole = slide.read(0, 0, 0, side, side)
            for by in (2, 4, 8):
                found = slide.read(0, 0, 0, side // by, side // by, by)
                assert np.abs(found - means(whole, by)).mean() < 1.3


@pytest.mark.parametrize("by", [2, 4, 8])
def test_a_box_is_that_of_the_whole(tmp_path: Path, by: int) -> None:
    with Slide(write_tiff(tmp_path / "s.tif", tissue(500, 700), levels=2)) as slide:
        width, height = 700 // by, 500 // by
        whole = slide.read(0, 0, 0, width, height, by)
        for x, y, across, down in ((0, 0, 9, 7), (240 // by - 1, 240 // by - 1, 2, 2), (11, 5, 50, 40)):
            found = slide.read(0, x, y, across, down, by)
            np.testing.assert_array_equal(found, whole[y : y + down, x : x + across])
        with pytest.raises(UnreadableSlide, match="leaves level 0"):
            slide.read(0, width - 4, 0, 5, 5, by)


@pytest.mark.parametrize("by", [1, 2, 4, 8])
@pytest.mark.parametrize("damage", ["ends early", "noise"])
def test_damage_is_noticed(tmp_path: Path, by: int, damage: str) -> None:
    path = write_base(tmp_path / "s.tif", "pyramid")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    if damage == "ends early":
        data[start + count // 2 : start + count // 2 + 2] = b"\xff\xd9"
    else:
        noise = np.random.default_rng(0).integers(0, 255, count // 2).astype(np.uint8)
        data[start + count // 2 : start + count // 2 + len(noise)] = noise.tobytes()
    path.write_bytes(data)
    with Slide(path) as slide, pytest.raises(UnreadableSlide, match="native tile 0,0 of level 0 cannot be"):
        slide.read(0, 0, 0, 8, 8, by)


def test_what_is_no_jpeg_is_not_reduced(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "s.tif", tissue(200, 200), tile=(64, 64), compression="deflate", photometric="rgb"
    )
    with Slide(tmp_path / "s.tif") as slide:
        assert slide.reduction(0) == 1
        with pytest.raises(ValueError, match="reduced by up to 1"):
            slide.read(0, 0, 0, 5, 5, 2)


def test_only_by_powers_of_two(tmp_path: Path) -> None:
    with Slide(write_tiff(tmp_path / "s.tif", tissue(200, 200))) as slide:
        for by in (0, 3, 16):
            with pytest.raises(ValueError, match=f"by={by}"):
                slide.read(0, 0, 0, 5, 5, by)


def test_where_nothing_was_stored_is_background(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "s.tif", tissue(480, 480))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        counts = tiff.pages[0].tags["TileByteCounts"]
        counts.overwrite([0, *counts.value[1:]])
    with Slide(path) as slide:
        found = slide.read(0, 0, 0, 240, 240, 2)
    assert (found[:120, :120] == 255).all()
    assert found[120:, 120:].mean() < 240
