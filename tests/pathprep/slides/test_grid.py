"""Tile sizes for any resolution, blocks that cover the cells exactly, regions, random choices."""

from typing import Any

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff

from pathprep.errors import MppError
from pathprep.slides import grid
from pathprep.slides.grid import Grid
from pathprep.slides.slide import Slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    path = write_tiff(tmp_path_factory.mktemp("slides") / "a.tif", tissue(1500, 2300), levels=3)
    return Slide(path)


def plan(slide: Slide, mpp: float, **changes: Any) -> Grid:
    options = {"tile": 256, "target": 0.5, "mode": "native", "overlap": 0, "per_region": 4}
    return grid.plan(slide, mpp, **(options | changes))


@pytest.mark.parametrize(("mpp", "side"), [(0.25, 512), (0.5, 256), (0.499, 257), (0.2325, 551), (0.55, 233)])
def test_native_side_is_the_published_formula(slide: Slide, mpp: float, side: int) -> None:
    made = plan(slide, mpp)
    assert (made.side, made.stored, made.level) == (side, side, 0)
    assert made.mpp == pytest.approx(mpp)
    assert made.columns == 2300 // side
    assert made.rows == 1500 // side


def test_resize_reads_the_smallest_level_that_suffices(slide: Slide) -> None:
    made = plan(slide, 0.125, mode="resize", tile=128)
    assert (made.level, made.downsample, made.side, made.stored) == (2, 4, 512, 128)
    assert made.mpp == 0.5
    # 0.26 MPP: 492 level-0 pixels, 246 of level 1 are too few for 256
    made = plan(slide, 0.26, mode="resize")
    assert (made.level, made.side, made.stored) == (0, 492, 256)
    assert made.mpp == pytest.approx(0.26 * 492 / 256)


def test_resize_never_enlarges(slide: Slide) -> None:
    made = plan(slide, 0.51, mode="resize")
    assert (made.side, made.stored, made.mpp) == (251, 251, 0.51)


def test_a_slide_coarser_than_asked_for_is_refused(slide: Slide) -> None:
    with pytest.raises(MppError, match=r"1 MPP is coarser than the 0.5 asked for; use `mpp` 1"):
        plan(slide, 1.0)


def test_overlap_shortens_the_stride(slide: Slide) -> None:
    made = plan(slide, 0.25, overlap=64)
    assert (made.side, made.stride) == (512, 384)
    assert made.columns == (2300 - 512) // 384 + 1
    made = plan(slide, 0.25, overlap=64, mode="resize")
    assert (made.level, made.stride) == (1, 384)


def test_a_slide_smaller_than_a_tile_has_an_empty_grid(slide: Slide) -> None:
    made = plan(slide, 0.05)
    assert (made.side, made.columns, made.rows) == (2560, 0, 0)
    assert list(grid.blocks(made, np.empty((0, 2), np.int64))) == []


@pytest.mark.parametrize("overlap", [0, 100])
def test_blocks_hold_every_cell_once_and_stay_inside(slide: Slide, overlap: int) -> None:
    made = plan(slide, 0.5, overlap=overlap, tile=64)
    rng = np.random.default_rng(1)
    cells = np.argwhere(rng.random((made.rows, made.columns)) < 0.3)[:, ::-1]
    blocks = list(grid.blocks(made, cells))
    seen = np.concatenate([block.cells for block in blocks])
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, cells.tolist()))
    for block in blocks:
        assert block.width <= grid.BLOCK
        assert block.height <= grid.BLOCK
        assert block.x + block.width <= slide.width
        assert block.y + block.height <= slide.height
        np.testing.assert_array_equal(block.origins + np.array([block.x, block.y]), block.cells * made.stride)
        assert (block.origins >= 0).all()
        assert (block.origins + made.side <= [block.width, block.height]).all()
    # the order of the cells given does not matter
    again = np.concatenate([b.cells for b in grid.blocks(made, rng.permutation(cells))])
    np.testing.assert_array_equal(again, seen)


def test_a_region_is_k_by_k_cells(slide: Slide) -> None:
    made = plan(slide, 0.5, tile=64)
    ids = np.array([[made.region(c, r) for c in range(made.columns)] for r in range(made.rows)])
    assert (ids[:4, :4] == ids[0, 0]).all()
    assert ids[0, 4] == ids[0, 0] + 1
    _, counts = np.unique(ids, return_counts=True)
    assert counts.max() == 16
    assert len(counts) == -(-made.columns // 4) * -(-made.rows // 4)


def test_choosing_depends_on_seed_and_name_only() -> None:
    cells = np.argwhere(np.ones((30, 40)))
    first = grid.choose(cells, 50, 0, "a")
    np.testing.assert_array_equal(first, grid.choose(cells, 50, 0, "a"))
    assert len(np.unique(first, axis=0)) == 50
    assert (first != grid.choose(cells, 50, 1, "a")).any()
    assert (first != grid.choose(cells, 50, 0, "b")).any()
    assert grid.choose(cells, None, 0, "a") is cells
    assert grid.choose(cells, 5000, 0, "a") is cells


def test_whole_regions_are_kept_by_their_mean_tissue(slide: Slide) -> None:
    made = plan(slide, 0.5, tile=64, per_region=3)
    assert made.columns % 3  # the last regions of a row are cut off by the slide's edge
    rng = np.random.default_rng(0)
    share = np.where(rng.random((made.rows, made.columns)) < 0.5, 0.0, rng.random((made.rows, made.columns)))
    expected = []
    for top in range(0, made.rows, 3):
        for left in range(0, made.columns, 3):
            part = share[top : top + 3, left : left + 3]
            if part.mean() >= 0.25:
                expected += [(left + c, top + r) for r in range(part.shape[0]) for c in range(part.shape[1])]
    kept = grid.keep(made, share, 0.25, whole_regions=True)
    assert sorted(map(tuple, kept.tolist())) == sorted(expected)
    assert 0 < len(kept) < share.size
    single = grid.keep(made, share, 0.25, whole_regions=False)
    assert len(single) == (share >= 0.25).sum()
    nothing = np.zeros_like(share)
    assert len(grid.keep(made, nothing, 0.0, whole_regions=True)) == 0
    assert len(grid.keep(made, nothing, 0.0, whole_regions=False)) == 0


def test_choosing_whole_groups() -> None:
    cells = np.argwhere(np.ones((12, 12)))
    groups = cells[:, 0] // 3 * 4 + cells[:, 1] // 3  # 16 groups of 9
    chosen = grid.choose(cells, 50, 0, "a", groups)
    found = chosen[:, 0] // 3 * 4 + chosen[:, 1] // 3
    assert len(chosen) == 45
    assert (np.unique(found, return_counts=True)[1] == 9).all()
    assert len(grid.choose(cells, 5, 0, "a", groups)) == 9, "at least one whole region"
    assert (grid.choose(cells, 50, 1, "a", groups) != chosen).any()
