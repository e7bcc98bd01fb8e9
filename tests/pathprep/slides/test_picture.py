"""Plain images as slides: PNG, JPEG and the like, TIFF in strips; their resolution, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.slides import tissue
from PIL import Image

import pathprep
from pathprep.errors import UnreadableSlide, UsageError
from pathprep.slides import find
from pathprep.slides.mpp.settle import MppRules
from pathprep.slides.readers import choose, picture
from pathprep.slides.slide import Slide

RULES = MppRules(None, None, 0.05, 10.0)


def image(height: int = 300, width: int = 200) -> np.ndarray:
    return np.asarray(tissue(height, width))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.tif", "a.jp2"])
def test_every_pixel_is_the_images(tmp_path: Path, name: str) -> None:
    path, pixels = tmp_path / name, image()
    options = {"a.webp": {"lossless": True}, "a.jp2": {"irreversible": False}}.get(name, {})
    Image.fromarray(pixels).save(path, **options)
    assert choose(path) == "picture"
    with Slide(path) as slide:
        assert (slide.reader, slide.width, slide.height, len(slide.levels)) == ("picture", 200, 300, 1)
        np.testing.assert_array_equal(slide.read(0, 20, 30, 100, 50), pixels[30:80, 20:120])
    with pytest.raises(UnreadableSlide, match="use `reader` auto"):
        Slide(path, "openslide")


def test_a_jpeg_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(image()).save(path, quality=90, dpi=(25400, 25400))
    with Slide(path) as slide, Image.open(path) as expected:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 200, 300), np.asarray(expected))
        assert slide.mpp(RULES).value == pytest.approx(1.0)
        assert slide.mpp(RULES).source == "JPEG's resolution"


@pytest.mark.parametrize(
    ("dots", "expected"), [((50800, 50800), 0.5), ((72, 72), None), ((300, 300), None), (None, None)]
)
def test_a_resolution_counts_unless_it_is_a_screens_or_printers(
    tmp_path: Path, dots: tuple[int, int] | None, expected: float | None
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(image()).save(path, **({} if dots is None else {"dpi": dots}))
    with Slide(path) as slide:
        understood = [each for each in slide.stated_mpp if each.understood]
        assert [each.x for each in understood] == (
            [] if expected is None else [pytest.approx(expected, 1e-4)]
        )


def test_a_tiff_in_strips_states_its_resolution_as_tiffs_do(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image(), rowsperstrip=16, resolution=(40000, 40000), resolutionunit=3)
    with Slide(path) as slide:
        assert slide.mpp(RULES).value == pytest.approx(0.25)
        np.testing.assert_array_equal(slide.read(0, 0, 0, 200, 300), image())


def test_transparency_is_white_and_a_turned_photograph_is_turned_back(tmp_path: Path) -> None:
    rgba = np.dstack([image(), np.zeros((300, 200), np.uint8)])
    rgba[:100, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image()).save(tmp_path / "b.jpg", exif=exif)
    with Slide(tmp_path / "a.png") as slide:
        pixels = slide.read(0, 0, 0, 200, 300)
        assert (pixels[100:] == 255).all()
        np.testing.assert_array_equal(pixels[:100], image()[:100])
    with Slide(tmp_path / "b.jpg") as slide:
        assert (slide.width, slide.height) == (300, 200)


def test_what_is_refused_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(deep)
    data = io.BytesIO()
    Image.fromarray(image()).save(data, "PNG")
    cut = tmp_path / "cut.png"
    cut.write_bytes(data.getvalue()[:2000])
    large = tmp_path / "large.png"
    Image.fromarray(image()).save(large)
    with pytest.raises(UnreadableSlide, match=r"deep\.png: cannot be read as a plain image .*16"):
        Slide(deep)
    with pytest.raises(UnreadableSlide, match=r"cut\.png: cannot be read as a plain image"):
        Slide(cut)
    monkeypatch.setattr(picture, "MOST_PIXELS", 1000)
    with pytest.raises(UnreadableSlide, match=r"200 x 300 px, of plain images at most 1,000 .*`vips copy"):
        Slide(large)


def test_they_are_taken_when_named_and_left_in_a_folder(tmp_path: Path) -> None:
    pixels = np.full((1200, 1000, 3), 245, np.uint8)
    pixels[200:1000, 200:800] = image(800, 600)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"1 \.png .pictures: .*a slide among them is taken"):
        find.find([tmp_path])
    (tmp_path / "list.csv").write_text("slide,mpp\na.png,0.5\n")
    summary = pathprep.shard(tmp_path / "list.csv", tmp_path / "dataset", workers=1, forecast=False)
    (marker,) = summary.markers.values()
    assert (marker.reader, marker.mpp, marker.counts["kept"] > 3) == ("picture", 0.5, True)
    assert [problem for found in pathprep.verify(tmp_path / "dataset") for problem in found.problems] == []


@pytest.mark.realdata
def test_a_section_of_ninety_megapixels(data: Path) -> None:
    (path,) = data.glob("expression/ST-imgs/B/B4/*.jpg")
    with Slide(path) as slide:
        assert (slide.width, slide.height) == (9272, 9923)
        assert slide.overview(16).std() > 10


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("cut", "copy it again from its source"),
        ("inks", "vips colourspace"),
        ("deep", "vips linear .* --uchar"),
        ("pages", "save the one that is meant alone"),
    ],
)
def test_what_is_said_to_do_would_help(tmp_path: Path, kind: str, way_out: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    path = tmp_path / "a.tif"
    image = Image.fromarray(pixels)
    if kind == "deep":
        tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="rgb")
    elif kind == "pages":
        tifffile.imwrite(path, np.stack([pixels, pixels]), photometric="rgb")
    else:
        path = tmp_path / "a.jpg"
        image.convert("CMYK" if kind == "inks" else "RGB").save(path)
        path.write_bytes(path.read_bytes()[: None if kind == "inks" else 2000])
    with pytest.raises(UnreadableSlide, match=way_out) as raised:
        Slide(path)
    assert ("vips" in str(raised.value)) == ("vips" in way_out)
