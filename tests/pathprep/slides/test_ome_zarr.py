"""OME-Zarr as slides: both versions of Zarr, every order of axes, and what would be read wrongly."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers.slides import tissue
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import pathprep
from pathprep.errors import UnreadableSlide
from pathprep.slides import find
from pathprep.slides.mpp.settle import MppRules
from pathprep.slides.slide import Slide

HEIGHT, WIDTH = 700, 600
RULES = MppRules(None, None, 0.05, 10.0)


def rgb() -> np.ndarray:
    found = np.full((HEIGHT, WIDTH, 3), 245, np.uint8)
    found[100:600, 50:550] = tissue(500, 500)
    return found


def write(
    path: Path,
    axes: str = "tczyx",
    version: int = 2,
    *,
    unit: str | None = "micrometer",
    levels: int = 3,
    separator: str = "/",
    image: np.ndarray | None = None,
    omero: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """An image of some levels in the layout of OME-NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3)."""
    image = rgb() if image is None else image
    group = zarr.open_group(path, mode="w", zarr_format=version)  # type: ignore[arg-type]
    datasets = []
    for level in range(levels):
        by = 2**level
        small = image[: HEIGHT // by * by : by, : WIDTH // by * by : by]
        array = np.moveaxis(small, 2, 0)[None, :, None]  # tczyx
        array = array.transpose(["tczyx".index(axis) for axis in axes if axis in "tczyx"] + [
            number for number, axis in enumerate("tczyx") if axis not in axes
        ])  # fmt: skip
        array = array.reshape(array.shape[: len(axes)])
        encoding = {"name": "v2" if version == 2 else "default", "separator": separator}
        group.create_array(
            str(level),
            data=array,
            chunks=tuple(min(128, side) for side in array.shape),
            chunk_key_encoding=encoding,
        )
        steps = [{"type": "scale", "scale": [0.5 * by if axis in "xy" else 1.0 for axis in axes]}]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    kinds = {"x": "space", "y": "space", "z": "space", "t": "time", "c": "channel"}
    listed = [
        {"name": axis, "type": kinds[axis], **({"unit": unit} if unit and axis in "xy" else {})}
        for axis in axes
    ]
    values: dict[str, Any] = {"multiscales": [{"axes": listed, "datasets": datasets, "version": "0.4"}]}
    if omero is not None:
        values["omero"] = omero
    group.attrs.update(values if version == 2 else {"ome": values})
    return path


@pytest.mark.parametrize(
    ("axes", "version", "separator"),
    [
        ("tczyx", 2, "/"),
        ("tczyx", 3, "/"),
        ("cyx", 3, "/"),
        ("yxc", 2, "."),
        ("zyxc", 3, "."),
        ("cyx", 2, "."),
    ],
)
def test_every_order_of_axes_in_both_versions(
    tmp_path: Path, axes: str, version: int, separator: str
) -> None:
    path = write(tmp_path / "a.ome.zarr", axes, version, separator=separator)
    with Slide(path) as slide:
        assert (slide.reader, slide.width, slide.height) == ("zarr", WIDTH, HEIGHT)
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        np.testing.assert_array_equal(slide.read(0, 30, 90, 300, 200), rgb()[90:290, 30:330])
        np.testing.assert_array_equal(slide.read(1, 0, 0, 300, 350), rgb()[::2, ::2])
        assert slide.mpp(RULES).value == pytest.approx(0.5)
        assert slide.notes == ["", "", ""]


def test_an_image_without_channels_is_grey(tmp_path: Path) -> None:
    """Of two axes: napari-ome-zarr once showed such an image black."""
    grey = rgb()[:, :, :1]
    path = write(tmp_path / "a.zarr", "yx", image=grey)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, WIDTH, HEIGHT), np.repeat(grey, 3, axis=2))


def test_a_scale_without_a_unit_is_no_resolution(tmp_path: Path) -> None:
    with Slide(write(tmp_path / "a.zarr", unit=None)) as slide:
        assert not any(each.understood for each in slide.stated_mpp)


def test_the_folder_that_bioformats2raw_writes(tmp_path: Path) -> None:
    outer = tmp_path / "a.zarr"
    group = zarr.open_group(outer, mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write(outer / "0")
    (outer / "OME").mkdir()
    (outer / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    with Slide(outer) as slide:
        assert (slide.width, slide.height) == (WIDTH, HEIGHT)
    assert [source.path for source in find.find([tmp_path])] == [outer]


def test_chunks_that_are_not_there_are_told_of(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr")
    shutil.rmtree(path / "0" / "0" / "0" / "0" / "2")
    with Slide(path) as slide:
        assert slide.notes[0] == "5 of 30 chunks are not there, which are read as 0"


@pytest.mark.parametrize("compressor", [BloscCodec(cname="lz4"), ZstdCodec(), GzipCodec(), None])
def test_a_damaged_chunk_is_an_error_that_names_the_place(tmp_path: Path, compressor: Any) -> None:
    """Blosc by itself reads a chunk that was cut off, with garbage at its end."""
    path = write(tmp_path / "a.zarr", "cyx", 3, compressors=compressor)
    chunk = path / "0" / "c" / "0" / "2" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with Slide(path) as slide:
        slide.read(0, 0, 0, 100, 100)
        with pytest.raises(
            UnreadableSlide, match=r"a\.zarr: cannot read 64x64 at 150,300 of level 0 .*damaged"
        ):
            slide.read(0, 150, 300, 64, 64)


def test_what_is_no_rgb_is_refused(tmp_path: Path) -> None:
    colours = {"channels": [{"color": "0000FF"}, {"color": "00FF00"}, {"color": "FF0000"}]}
    with pytest.raises(UnreadableSlide, match="coloured 0000FF, 00FF00, FF0000, not red, green and blue"):
        Slide(write(tmp_path / "dapi.zarr", omero=colours))
    four = np.concatenate([rgb(), rgb()[:, :, :1]], axis=2)
    with pytest.raises(UnreadableSlide, match="4 channels, not one of RGB"):
        Slide(write(tmp_path / "four.zarr", image=four))
    with pytest.raises(UnreadableSlide, match="samples of uint16, 8 bits are read"):
        Slide(write(tmp_path / "deep.zarr", image=rgb().astype(np.uint16)))
    (tmp_path / "none.zarr").mkdir()
    with pytest.raises(UnreadableSlide, match=r"none\.zarr: is a folder, not a slide"):
        Slide(tmp_path / "none.zarr")
    damaged = write(tmp_path / "damaged.zarr")
    (damaged / "0" / ".zarray").write_text('{"shape": [')
    with pytest.raises(UnreadableSlide, match="its metadata cannot be read"):
        Slide(damaged)


def test_a_run_takes_it_goes_on_and_notices_a_change(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    write(slides / "a.ome.zarr", version=3)
    (slides / "features.zarr").mkdir()  # of AnnData, for one
    (slides / "features.zarr" / "zarr.json").write_text("{}")

    def shard() -> Any:
        return pathprep.shard(slides, tmp_path / "dataset", workers=1, forecast=False, tile=128)

    summary = shard()
    (marker,) = summary.markers.values()
    assert (marker.reader, marker.own_name, marker.counts["kept"] > 3) == ("zarr", "a.ome", True)
    assert "without an image" in str(summary.not_taken)
    assert list(shard().skipped) == ["a_ome"]
    chunk = next(path for path in (slides / "a.ome.zarr" / "0" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes() + b"x")
    assert list(shard().failures or shard().markers) == ["a_ome"]
