"""The JPEG reader: the pixels of cuCIM and OpenSlide on every level, and errors where they stay silent."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.damaged_slides import anatomy, patch, write_base
from helpers.slides import tissue, write_tiff

from pathprep.errors import UnreadableSlide
from pathprep.params.shard import ReaderName
from pathprep.slides.readers import choose, open_reader

PEERS: tuple[ReaderName, ...] = ("cucim", "openslide")


def compare(path: Path) -> None:
    ours = open_reader(path, "tiff")
    assert choose(path) == "tiff"
    for name in PEERS:
        peer = open_reader(path, name)
        assert [level[:2] for level in ours.levels] == [level[:2] for level in peer.levels]
        # cuCIM's are rounded to 32 bits
        downsamples = [level.downsample for level in ours.levels]
        assert downsamples == pytest.approx([level.downsample for level in peer.levels], rel=1e-6)
        assert ours.vendor == peer.vendor
        assert ours.header.statements() == peer.header.statements()
        for level, (width, height, _) in enumerate(ours.levels):
            np.testing.assert_array_equal(
                ours.read(level, 0, 0, width, height),
                peer.read(level, 0, 0, width, height),
                f"{name} {level}",
            )
        peer.close()
    ours.close()


@pytest.mark.parametrize("base", ["pyramid", "big", "aperio", "rgb", "single"])
def test_every_level_has_the_pixels_of_the_other_readers(tmp_path: Path, base: str) -> None:
    compare(write_base(tmp_path / ("a.svs" if base == "aperio" else "a.tif"), base))


def test_sizes_that_are_no_multiple_of_the_tile(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue(333, 517), levels=3, tile=80)
    compare(path)
    ours, peer = open_reader(path, "tiff"), open_reader(path, "cucim")
    for box in [
        (0, 0, 0, 1, 1),
        (0, 516, 332, 1, 1),
        (0, 79, 79, 2, 2),
        (1, 3, 100, 200, 66),
        (2, 0, 0, 129, 83),
    ]:
        np.testing.assert_array_equal(ours.read(*box), peer.read(*box))


@pytest.mark.realdata
def test_real_slides_have_the_pixels_of_the_other_readers(data: Path) -> None:
    compare(data / "slides" / "CMU-1-Small-Region.svs")
    for path in [*sorted((data / "slides" / "monuseg").glob("*.tif"))[:2], data / "cohort" / "train-00.tif"]:
        compare(path)


def test_threads_read_one_file(tmp_path: Path) -> None:
    reader = open_reader(write_tiff(tmp_path / "a.tif", tissue(600, 600), tile=64), "tiff")
    boxes = [(x, y) for y in range(0, 500, 50) for x in range(0, 500, 50)]
    alone = [reader.read(0, x, y, 100, 100) for x, y in boxes]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda box: reader.read(0, *box, 100, 100), boxes))
    np.testing.assert_array_equal(alone, together)


def test_a_tile_that_is_not_there_is_background_as_openslide_has_it(tmp_path: Path) -> None:
    path = write_base(tmp_path / "a.tif", "pyramid")
    missing = [{"tag": "TileByteCounts", "item": 19, "value": 0}]
    path.write_bytes(patch(path.read_bytes(), anatomy(path), missing))
    ours, peer = open_reader(path), open_reader(path, "openslide")
    assert ours.name == "tiff"
    tile = ours.read(0, 192, 128, 64, 64)
    assert tile.min() == 255
    np.testing.assert_array_equal(tile, peer.read(0, 192, 128, 64, 64))


def test_gaps_in_aperios_reduced_levels_are_openslides_to_fill(tmp_path: Path) -> None:
    path = write_base(tmp_path / "a.svs", "aperio")
    missing = [{"tag": "TileByteCounts", "page": 1, "item": 5, "value": 0}]
    path.write_bytes(patch(path.read_bytes(), anatomy(path), missing))
    assert choose(path) == "openslide"
    with pytest.raises(UnreadableSlide, match="use `reader` auto"):
        open_reader(path, "tiff")


def test_damage_that_cucim_does_not_report_is_an_error(tmp_path: Path) -> None:
    path = write_base(tmp_path / "a.tif", "pyramid")
    whole = open_reader(path, "cucim").read(0, 192, 128, 64, 64)
    path = tmp_path / "b.tif"
    path.write_bytes(
        patch((tmp_path / "a.tif").read_bytes(), anatomy(tmp_path / "a.tif"), [{"tile": 19, "fill": 0}])
    )
    silent = open_reader(path, "cucim").read(0, 192, 128, 64, 64)
    assert np.abs(silent.astype(int) - whole).mean() > 20  # the reason for this reader
    ours = open_reader(path)
    with pytest.raises(UnreadableSlide, match=r"b\.tif: native tile 3,2 of level 0 cannot be decoded"):
        ours.read(0, 100, 100, 200, 200)
    ours.read(0, 256, 0, 256, 384)  # the rest is whole


@pytest.mark.parametrize("base", ["jp2k", "lzw", "deflate"])
def test_other_compressions_are_read_alike_where_it_is_asked_for(tmp_path: Path, base: str) -> None:
    path = write_base(tmp_path / ("a.svs" if base == "jp2k" else "a.tif"), base)
    assert choose(path) == ("cucim" if base == "jp2k" else "openslide")
    readers = open_reader(path, "tiff"), open_reader(path)
    ours, theirs = (reader.read(1, 0, 0, 256, 192).astype(int) for reader in readers)
    # two builds of the JPEG 2000 decoder round differently
    np.testing.assert_allclose(ours, theirs, atol=1 if base == "jp2k" else 0)


def test_jpeg_2000_that_turns_back_into_rgb_itself_is_not_turned_twice(tmp_path: Path) -> None:
    path = write_base(tmp_path / "a.svs", "jp2k")
    truth = open_reader(path).read(0, 0, 0, 512, 384).astype(int)
    ycbcr = [{"tag": "Compression", "page": page, "value": 33003} for page in range(3)]
    path.write_bytes(patch(path.read_bytes(), anatomy(path), ycbcr))
    reader = open_reader(path)
    assert (reader.name, reader.colour) == ("tiff", "RGB (JPEG 2000 header; the TIFF tag says YCbCr)")
    np.testing.assert_allclose(reader.read(0, 0, 0, 512, 384), truth, atol=1)
    for name in PEERS:
        with pytest.raises(UnreadableSlide, match="would believe the tag that says YCbCr"):
            open_reader(path, name)


@pytest.mark.parametrize("photometric", [4, 5, 8, 32803])
def test_colours_that_slides_do_not_have_are_refused_by_name(tmp_path: Path, photometric: int) -> None:
    path = write_base(tmp_path / "a.tif", "lzw")
    tag = [{"tag": "PhotometricInterpretation", "page": 0, "value": photometric}]
    path.write_bytes(patch(path.read_bytes(), anatomy(path), tag))
    with pytest.raises(UnreadableSlide, match=r"\(PhotometricInterpretation\); .*vips colourspace"):
        open_reader(path)


def test_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    path = write_base(tmp_path / "a.tif", "single")
    reader = open_reader(path, "tiff")
    with path.open("r+b") as file:
        file.truncate(30_000)
    with pytest.raises(UnreadableSlide, match="of .* bytes"):
        reader.read(0, 0, 0, 512, 384)
