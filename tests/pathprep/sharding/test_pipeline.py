"""A slide becomes a shard: the right pixels in the right place, each stain mode, every cell counted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pyarrow.parquet as pq
import pytest
from helpers.slides import tissue, write_tiff
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.errors import MaskError, MppError
from pathprep.images import jpeg
from pathprep.kernels.tiling_reference import resample
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tissue import TissueParams
from pathprep.sharding import pipeline
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.slides.find import SlideSource

# Tests compare what is stored with the JPEG of what should be: equal to the bit
EXACT = ShardParams(tile=64, region=256, quality=100, subsampling="444", stain=StainParams("none"))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "a.tif", tissue(900, 1100, margin=150), levels=2)


def shard(root: Path, path: Path, params: ShardParams, **options: Any) -> tuple[Dataset, dict[str, Any]]:
    build = prepare(root, params, rebuild=False)
    marker = pipeline.process(
        ShardTask(root, SlideSource(path, name="s", **options), params, build, threads=2)
    )
    return Dataset(root), marker


def pixels(dataset: Dataset) -> list[tuple[dict[str, Any], np.ndarray]]:
    rows = dataset.table("s").to_pylist()
    return [(row, jpeg.decode(dataset.read("s", row["offset"], row["length"]))) for row in rows]


def coded(expected: np.ndarray) -> np.ndarray:
    return jpeg.decode(jpeg.encode(np.ascontiguousarray(expected), EXACT.quality, EXACT.subsampling))


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


def test_tiles_are_openslides_pixels_at_the_same_place(tmp_path: Path, slide: Path) -> None:
    dataset, marker = shard(tmp_path, slide, EXACT)
    peer = openslide.OpenSlide(str(slide))
    tiles = pixels(dataset)
    assert len(tiles) == marker.counts["kept"] > 50
    for row, tile in tiles:
        theirs = np.asarray(peer.read_region((row["x"], row["y"]), 0, (64, 64)).convert("RGB"))
        np.testing.assert_array_equal(tile, coded(theirs))
        assert (row["x"], row["y"]) == (64 * row["column"], 64 * row["row"])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("CMU-1-Small-Region.svs", True),
        # JPEG 2000: the two libraries' decoders differ by one level in a pixel of a million
        ("TCGA-CR-7395-01A-01-TS1.svs", False),
    ],
)
def test_real_tiles_are_openslides_pixels(tmp_path: Path, data: Path, name: str, exact: bool) -> None:
    params = replace(EXACT, tile=256, region=4096, default_mpp=0.25)
    dataset, _ = shard(tmp_path, data / "slides" / name, params)
    peer = openslide.OpenSlide(str(data / "slides" / name))
    tiles = pixels(dataset)
    assert len(tiles) > 20
    for row, tile in tiles:
        assert row["side"] == round(256 * 0.5 / row["mpp"])
        box = (row["side"], row["side"])
        theirs = np.asarray(peer.read_region((row["x"], row["y"]), 0, box).convert("RGB"))
        if exact:
            np.testing.assert_array_equal(tile, coded(theirs))
        else:
            assert difference(tile, coded(theirs)) <= 4
            assert np.mean(tile != coded(theirs)) < 1e-3


def test_every_cell_is_counted_once(tmp_path: Path, slide: Path) -> None:
    _, marker = shard(tmp_path, slide, replace(EXACT, max_tiles=20, min_tissue=0.7))
    counts, grid = marker.counts, marker.grid
    assert sum(counts.values()) == grid.columns * grid.rows
    assert counts["kept"] == marker.tiles == 20
    assert min(count for reason, count in counts.items() if reason != "small_pieces") > 0


def test_the_index_keeps_the_own_name_of_its_slide(tmp_path: Path, slide: Path) -> None:
    own = slide.rename(slide.with_name("胃癌 1.tif"))
    try:
        _, marker = shard(tmp_path / "ds", own, EXACT)
    finally:
        own.rename(slide)
    (index,) = (tmp_path / "ds" / "index").iterdir()
    assert pq.read_schema(index).metadata[b"own_name"].decode() == marker.own_name


def test_cells_lost_with_small_pieces_are_counted_as_such(tmp_path: Path, slide: Path) -> None:
    _, usual = shard(tmp_path / "usual", slide, EXACT)
    _, marker = shard(tmp_path / "none", slide, replace(EXACT, tissue=TissueParams(min_piece=1e6)))
    assert usual.counts["small_pieces"] == 0
    assert marker.counts["small_pieces"] == usual.counts["kept"] > 0
    assert marker.counts["kept"] == 0
    assert sum(marker.counts.values()) == sum(usual.counts.values())
    assert marker.notes == ("no_tissue",)
    assert usual.notes == ()


def test_a_slide_without_light_is_named_and_left_plain(tmp_path: Path) -> None:
    dark = np.random.default_rng(0).integers(0, 8, (512, 512, 3))
    dark[100:400, 100:400, 2] += np.random.default_rng(1).integers(40, 150, (300, 300))
    path = write_tiff(tmp_path / "fluorescence.tif", dark.astype(np.uint8))
    dataset, marker = shard(tmp_path / "out", path, replace(EXACT, stain=StainParams("bake")))
    assert "dark_background" in marker.notes
    assert set(marker.stain) == {"unfitted"}
    assert max(tile.mean() for _, tile in pixels(dataset)) < 60


def test_kept_tiles_have_enough_tissue(tmp_path: Path, slide: Path) -> None:
    dataset, _ = shard(tmp_path, slide, replace(EXACT, min_tissue=0.7))
    rows = dataset.table("s").to_pylist()
    assert min(row["tissue"] for row in rows) >= 0.7
    assert all(150 - 64 < row["x"] < 950 and 150 - 64 < row["y"] < 750 for row in rows)
    dataset, _ = shard(tmp_path / "all", slide, replace(EXACT, min_tissue=0.0))
    assert 0 < min(row["tissue"] for row in dataset.table("s").to_pylist()) < 0.7


def test_resize_stores_the_area_average_of_a_level(tmp_path: Path, slide: Path) -> None:
    # 1 MPP from a slide of 0.5: level 1 is read as it is
    dataset, marker = shard(tmp_path, slide, replace(EXACT, mode="resize", mpp=1.0))
    assert (marker.grid.level, marker.grid.side, marker.grid.stored) == (1, 128, 64)
    peer = openslide.OpenSlide(str(slide))
    for row, tile in pixels(dataset):
        theirs = np.asarray(peer.read_region((row["x"], row["y"]), 1, (64, 64)).convert("RGB"))
        np.testing.assert_array_equal(tile, coded(theirs))
        assert row["mpp"] == pytest.approx(1.0)
    # 0.8 MPP: level 1 would have too few pixels, level 0 is averaged
    dataset, marker = shard(tmp_path / "b", slide, replace(EXACT, mode="resize", mpp=0.8))
    assert (marker.grid.level, marker.grid.side, marker.grid.stored) == (0, 102, 64)
    for row, tile in pixels(dataset):
        theirs = np.asarray(peer.read_region((row["x"], row["y"]), 0, (102, 102)).convert("RGB"))
        np.testing.assert_array_equal(tile, coded(resample(theirs, 64)))


@pytest.mark.realdata
def test_baked_tiles_equal_torchstain(tmp_path: Path, data: Path) -> None:
    params = replace(EXACT, tile=256, region=4096, stain=StainParams("bake"))
    dataset, marker = shard(tmp_path, data / "slides" / "CMU-1-Small-Region.svs", params)
    peer = openslide.OpenSlide(str(data / "slides" / "CMU-1-Small-Region.svs"))
    assert marker.stain["fitted"] == marker.tiles
    for row, tile in pixels(dataset)[::4]:
        box = (row["side"], row["side"])
        plain = np.asarray(peer.read_region((row["x"], row["y"]), 0, box).convert("RGB"))
        theirs, _, _ = NumpyMacenkoNormalizer().normalize(plain, stains=False)
        # one level from the method's own truncation, the rest from the JPEG
        assert difference(tile, theirs) <= 5
        assert np.abs(tile.astype(int) - theirs).mean() < 0.6


def test_tiles_without_a_fit_of_their_own_get_the_slides(tmp_path: Path) -> None:
    field = tissue(512, 768)
    field[:128, :256] = (205, 120, 180)  # flat colour: tissue, but no pair of stains
    path = write_tiff(tmp_path / "a.tif", field, tile=256)
    params = replace(EXACT, stain=StainParams("bake"))
    dataset, marker = shard(tmp_path / "d", path, params)
    assert marker.stain["slide_fit"] >= 6
    assert marker.stain["fitted"] > 60
    rows = dataset.table("s").to_pylist()
    statuses = [row["stain_status"] for row in rows]
    assert statuses == sorted(statuses)  # fitted first, then slide_fit
    pooled = marker.stain_fit
    late = [row for row in rows if row["stain_status"] == "slide_fit"]
    assert all(row["x"] < 256 and row["y"] < 128 for row in late)
    for row in late:
        np.testing.assert_allclose(row["he"], pooled.he, rtol=1e-6)
        np.testing.assert_allclose(row["max_c"], pooled.max_c, rtol=1e-6)
    one = stain.StainFit(
        np.array(pooled.he).reshape(1, 3, 2),
        np.array(pooled.max_c)[None],
        np.zeros(1, np.int64),
        np.array([stain.Status.FITTED], np.uint8),
    )
    row, tile = next((r, t) for r, t in pixels(dataset) if r["stain_status"] == "slide_fit" and r["x"] == 64)
    plain = np.full((1, 64, 64, 3), (205, 120, 180), np.uint8)
    expected = stain.apply(plain, stain.matrix(one, stain.Target.default()))[0]
    assert np.abs(tile.astype(int) - expected).mean() < 4  # the slide is a JPEG, too


def test_a_slide_that_cannot_be_fitted_stays_as_it_is_and_says_so(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.full((256, 256, 3), (205, 120, 180), np.uint8), tile=256)
    dataset, marker = shard(tmp_path / "d", path, replace(EXACT, stain=StainParams("bake")))
    assert marker.stain == {"unfitted": 16}
    assert marker.stain_fit is None
    for row, tile in pixels(dataset):
        assert (row["stain_status"], row["he"], row["max_c"]) == ("unfitted", None, None)
        assert difference(tile, np.array([205, 120, 180])) <= 3


def test_fit_mode_stores_plain_tiles_and_the_fits_that_bake_uses(tmp_path: Path, slide: Path) -> None:
    plain, _ = shard(tmp_path / "none", slide, EXACT)
    fit, fit_marker = shard(tmp_path / "fit", slide, replace(EXACT, stain=StainParams("fit")))
    bake, bake_marker = shard(tmp_path / "bake", slide, replace(EXACT, stain=StainParams("bake")))
    assert fit_marker.stain == bake_marker.stain
    assert fit_marker.stain_fit == bake_marker.stain_fit
    by_place = {(row["x"], row["y"]): tile for row, tile in pixels(plain)}
    baked = {(row["x"], row["y"]): (row, tile) for row, tile in pixels(bake)}
    for row, tile in pixels(fit):
        np.testing.assert_array_equal(tile, by_place[row["x"], row["y"]])
        other, normalised = baked[row["x"], row["y"]]
        assert (row["he"], row["max_c"]) == (other["he"], other["max_c"])
        fits = stain.StainFit(
            np.array(row["he"], float).reshape(1, 3, 2),
            np.array(row["max_c"], float)[None],
            np.zeros(1, np.int64),
            np.array([stain.Status.FITTED], np.uint8),
        )
        again = stain.apply(tile[None], stain.matrix(fits, stain.Target.default()))[0]
        assert np.abs(again.astype(int) - normalised).mean() < 2  # normalised after, not before, the JPEG


def test_threads_change_no_byte(tmp_path: Path, slide: Path) -> None:
    params = replace(EXACT, stain=StainParams("bake"))
    hashes = []
    for threads in (1, 4):
        root = tmp_path / str(threads)
        build = prepare(root, params, rebuild=False)
        hashes.append(
            pipeline.process(ShardTask(root, SlideSource(slide, name="s"), params, build, threads)).files
        )
    assert hashes[0] == hashes[1]


def test_own_masks_and_mpp(tmp_path: Path, slide: Path) -> None:
    from PIL import Image

    mask = np.zeros((90, 110), np.uint8)
    mask[20:40, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    dataset, marker = shard(tmp_path / "d", slide, EXACT, mask=tmp_path / "mask.png", mpp=0.25)
    assert (marker.mpp, marker.mpp_source, marker.grid.side) == (0.25, "CSV column", 128)
    rows = dataset.table("s").to_pylist()
    assert 0 < len(rows) <= 12
    assert all(128 <= row["x"] < 600 and 128 <= row["y"] < 400 for row in rows)
    (tmp_path / "mask.png").write_bytes(b"?")
    with pytest.raises(MaskError):
        shard(tmp_path / "e", slide, EXACT, mask=tmp_path / "mask.png")


def test_a_failing_slide_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue(300, 300), mpp=None)
    with pytest.raises(MppError):
        shard(tmp_path / "d", path, EXACT)
    left = [p.name for p in (tmp_path / "d").rglob("*") if p.is_file()]
    assert left == ["dataset.json"]


def test_whole_regions_keep_their_empty_cells(tmp_path: Path, slide: Path) -> None:
    params = replace(EXACT, whole_regions=True, min_tissue=0.5)
    dataset, marker = shard(tmp_path, slide, params)
    grid, rows = marker.grid, dataset.table("s").to_pylist()
    assert sum(marker.counts.values()) == grid.columns * grid.rows
    assert marker.counts["kept"] == len(rows)
    assert any(row["tissue"] == 0 for row in rows)
    kept = {(row["column"], row["row"]) for row in rows}
    for column, row in kept:
        left, top = column // 4 * 4, row // 4 * 4
        region = {
            (c, r)
            for c in range(left, min(left + 4, grid.columns))
            for r in range(top, min(top + 4, grid.rows))
        }
        assert region <= kept
    assert len({row["region"] for row in rows}) < -(-grid.columns // 4) * -(-grid.rows // 4)
