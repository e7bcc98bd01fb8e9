"""Every kind of TIFF is read with the pixels that were painted, by each reader that takes it, or refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.tiff_kinds import HEIGHT, JPEGS, LAYOUTS, LEVELS, WIDTH, Kind, kinds, picture, write
from PIL import Image

from pathprep.errors import UnreadableSlide
from pathprep.params.shard import ReaderName
from pathprep.slides.slide import Slide

NAMES: tuple[ReaderName, ...] = ("auto", "tiff", "openslide", "cucim")


def check(path: Path, kind: Kind, name: ReaderName) -> str:
    """Compares one reader with the picture; returns its name, or the reason why it does not take the file."""
    try:
        slide = Slide(path, name)
    except UnreadableSlide as error:
        return str(error)
    with slide:
        whole = 1 if kind.layout == "flat" else LEVELS
        # what OpenSlide and cuCIM do not see of a pyramid in SubIFDs is no wrong pixel
        assert len(slide.levels) == (1 if kind.layout == "subifds" and slide.reader != "tiff" else whole)
        for level, (width, height, downsample) in enumerate(slide.levels):
            truth = picture(level)
            assert (height, width) == truth.shape[:2], (kind, name)
            assert downsample == pytest.approx(2**level), (kind, name)
            there = slide.read(level, 0, 0, width, height)
            off = np.abs(there.astype(int) - truth).mean()
            assert off < 6 if kind.compression in JPEGS else off == 0, (kind, name, level, off)
        overview = slide.overview(4.0)
        assert np.abs(overview.astype(int) - picture(2)).mean() < 4, (kind, name)
        assert ("the TIFF tag says" in slide.colour) != kind.right
        return slide.reader


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_kind_is_right_or_refused_by_name(tmp_path: Path, layout: str) -> None:
    for number, kind in enumerate(kinds(layout)):
        suffix = ".svs" if layout == "aperio" else ".tif"
        path = write(tmp_path / f"{number}{suffix}", kind)
        said = {name: check(path, kind, name) for name in NAMES}
        assert said["auto"] in NAMES, (kind, said)
        assert said["tiff"] == "tiff", (kind, said)
        for name in ("openslide", "cucim"):
            if not kind.right:
                assert "would believe the tag" in said[name], (kind, said)
            else:
                assert said[name] == name or "use `reader` auto" in said[name], (kind, said)
        path.unlink()


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_what_is_transparent_is_white(
    tmp_path: Path, alpha: str, order: str, compression: str | None
) -> None:
    pixels = picture(0)
    opacity = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    opacity[:, 100:] = 128
    opacity[:, 300:] = 255
    white = (pixels * (opacity / 255) + 255 * (1 - opacity / 255)).round()
    stored = pixels if alpha == "unassalpha" else (pixels * (opacity / 255)).round()
    stored = np.where(opacity == 0, 0, stored)  # black, where tools leave it out
    rgba = np.concatenate([stored, opacity], axis=2).astype(np.uint8)
    for planar in ("contig", "separate"):
        path = tmp_path / f"{planar}.tif"
        tifffile.imwrite(
            path,
            rgba if planar == "contig" else rgba.transpose(2, 0, 1),
            photometric="rgb",
            planarconfig=planar,
            extrasamples=[alpha],
            tile=(128, 128),
            byteorder=order,
            compression=compression,
        )
        for name in NAMES:
            if name == "cucim" or (name == "openslide" and order == ">"):
                with pytest.raises(UnreadableSlide, match="reader cucim|OpenSlide cannot"):
                    Slide(path, name)
                continue
            with Slide(path, name) as slide:
                there = slide.read(0, 0, 0, WIDTH, HEIGHT).astype(int)
            assert np.abs(there - white).max() <= 3, (planar, name)
            assert (there[:, :100] == 255).all(), (planar, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": np.uint16}, r"16 bits per sample \(BitsPerSample\), 8 are read; scale it .*0\.00389105"),
        ({"dtype": np.float32}, "32 bits per sample, floating-point"),
        ({"dtype": np.int8}, "signed samples"),
        ({"dtype": bool, "photometric": "minisblack"}, "1 bits per sample"),
        ({"extrasamples": ["unspecified"]}, "whether the last is transparency is not said"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", NAMES)
def test_other_samples_are_refused_by_name_before_anything_decodes_them(
    tmp_path: Path, options: dict, message: str, order: str, name: ReaderName
) -> None:
    options = {"photometric": "rgb", **options}
    pixels = np.zeros((256, 256, 4 if "extrasamples" in options else 3), options.pop("dtype", np.uint8))
    if options["photometric"] == "minisblack":
        pixels = pixels[:, :, 0]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, tile=(128, 128), byteorder=order, **options)
    with pytest.raises(UnreadableSlide, match=message):
        Slide(path, name)


def test_channels_that_are_images_of_their_own_are_no_grey_slide(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        picture(0).transpose(2, 0, 1),
        photometric="minisblack",
        tile=(128, 128),
        metadata={"axes": "CYX"},
    )
    with pytest.raises(UnreadableSlide, match="3 images of 640x512 px with one sample each"):
        Slide(path)


@pytest.mark.parametrize("compression", ["webp", "jpeg2000"])
def test_compressions_that_openslide_does_not_open_are_read(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    how = {"lossless": True} if compression == "webp" else {"reversible": True, "level": 0}
    tifffile.imwrite(
        path, picture(0), photometric="rgb", tile=(128, 128), compression=compression, compressionargs=how
    )
    with Slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, WIDTH, HEIGHT), picture(0))
    with pytest.raises(UnreadableSlide, match="Unsupported TIFF compression.*use `reader` auto"):
        Slide(path, "openslide")


def test_what_no_reader_opens_is_refused_with_the_reason_and_a_command(tmp_path: Path) -> None:
    lzma, palette = tmp_path / "lzma.tif", tmp_path / "palette.tif"
    tifffile.imwrite(lzma, picture(0), photometric="rgb", tile=(128, 128), compression="lzma")
    colours = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(
        palette, picture(0)[..., 0], photometric="palette", colormap=colours, tile=(128, 128), byteorder=">"
    )
    for path, reason in ((lzma, "compression is 34925"), (palette, "colours are palette")):
        with pytest.raises(UnreadableSlide, match=f"{reason}; convert it.*vips copy") as refused:
            Slide(path)
        assert "auto" not in str(refused.value)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_ycbcr_that_is_not_jpeg_becomes_rgb(tmp_path: Path, compression: str | None) -> None:
    path, unsaid = tmp_path / "a.tif", tmp_path / "b.tif"
    mixed = np.asarray(Image.fromarray(picture(0)).convert("YCbCr"))
    for each, tags in ((path, [(530, "H", 2, (1, 1), True)]), (unsaid, [])):  # YCbCrSubSampling
        tifffile.imwrite(
            each,
            mixed,
            photometric="rgb",
            tile=(128, 128),
            compression=compression,
            metadata=None,
            extratags=tags,
        )
        with tifffile.TiffFile(each) as tiff:
            place = tiff.pages.first.tags[262].valueoffset
        with each.open("r+b") as file:
            file.seek(place)
            file.write(b"\6\0")
    with pytest.raises(UnreadableSlide, match="does not say how chroma is sampled"):
        Slide(unsaid)
    with Slide(path) as slide:
        assert slide.colour == "YCbCr (TIFF tag)"
        assert np.abs(slide.read(0, 0, 0, WIDTH, HEIGHT).astype(int) - picture(0)).mean() < 2
    with pytest.raises(UnreadableSlide, match="its tiles hold YCbCr"):
        Slide(path, "cucim")
