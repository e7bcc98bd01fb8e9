"""Tiles that decode without a word but show something else than the overview."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.damaged_slides import anatomy, examine_all, patch, write_base
from helpers.slides import tissue
from PIL import Image

from pathprep.errors import UnreadableSlide
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.sharding import run
from pathprep.sharding.recorded import recorded
from pathprep.slides import cross_check, grid
from pathprep.slides.find import find
from pathprep.slides.grid import Block, Grid

HERE = Path("a.svs")
SIDE, WIDTH, HEIGHT, DOWNSAMPLE = 256, 1100, 900, 8


def plan(side: int = SIDE, stored: int = SIDE, stride: int = SIDE) -> Grid:
    columns, rows = ((length - side) // stride + 1 for length in (WIDTH, HEIGHT))
    return Grid(0, 1, side, stride, stored, 0.5, columns, rows, 4)


def slide() -> tuple[np.ndarray, np.ndarray]:
    pixels = tissue(HEIGHT, WIDTH, seed=1, margin=100)
    small = Image.fromarray(pixels).resize((WIDTH // DOWNSAMPLE, HEIGHT // DOWNSAMPLE), Image.Resampling.BOX)
    return pixels, np.asarray(small)


def blocks(pixels: np.ndarray, plan: Grid) -> list[tuple[Block, np.ndarray]]:
    cells = np.argwhere(np.ones((plan.rows, plan.columns), bool))[:, ::-1]
    found = []
    for block in grid.blocks(plan, cells):
        corners = block.cells * plan.stride
        found.append((block, np.stack([pixels[y : y + plan.side, x : x + plan.side] for x, y in corners])))
    return found


@pytest.mark.parametrize("side", [64, 100, 256, 500])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_is_whole_passes(side: int, share: float) -> None:
    pixels, overview = slide()
    where = plan(side, side, int(side * share))
    check = cross_check.Check(HERE, overview, WIDTH, HEIGHT, where)
    for block, tiles in blocks(pixels, where):
        check.tiles(block, tiles)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (128, 128, 128)])
def test_a_quarter_of_a_tile_is_noticed(colour: tuple[int, int, int]) -> None:
    pixels, overview = slide()
    pixels[256:384, 512:640] = colour
    check = cross_check.Check(HERE, overview, WIDTH, HEIGHT, plan())
    ((block, tiles),) = blocks(pixels, plan())
    with pytest.raises(
        UnreadableSlide, match=r"a\.svs: the tile at 512,256 differs from the overview .* by \d+"
    ):
        check.tiles(block, tiles)


def test_the_expected_mean_is_exact_at_fractions_of_an_overview_pixel() -> None:
    overview = np.zeros((50, 50, 3), np.uint8)
    overview[:, 25:] = 200
    check = cross_check.Check(HERE, overview, 500, 500, Grid(0, 1, 101, 101, 101, 0.5, 4, 4, 4))
    # columns 202 to 303 of level 0 are overview columns 20.2 to 30.3, of which 5.3 are bright
    np.testing.assert_allclose(check._expected(202, 202), 200 * 5.3 / 10.1)


def test_tiles_smaller_than_the_overview_shows_pass() -> None:
    pixels, overview = slide()
    where = plan(32, 32, 32)
    check = cross_check.Check(HERE, overview, WIDTH, HEIGHT, where)
    for block, tiles in blocks(255 - pixels, where):
        check.tiles(block, tiles)


def test_jpeg_2000_is_where_it_is_needed(tmp_path: Path) -> None:
    # no decoder notices that one tile is another's picture
    whole, other = write_base(tmp_path / "a.svs", "jp2k"), tmp_path / "b.svs"
    other.write_bytes(patch(whole.read_bytes(), anatomy(whole), [{"tile": 19, "from": [0, 0]}]))
    first, outcome = examine_all([whole, other])
    assert first.kind == "equal"
    assert (outcome.kind, outcome.error) == ("refused", "UnreadableSlide")
    assert "differs from the overview" in outcome.text


def test_the_check_can_be_left_out(tmp_path: Path) -> None:
    pixels = tissue(3072, 3072, seed=2)
    inverted = tmp_path / "a.tif"
    with tifffile.TiffWriter(inverted) as tiff:  # the small level shows something else
        for level in (pixels, 255 - pixels[::2, ::2]):
            tiff.write(
                np.ascontiguousarray(level),
                tile=(128, 128),
                photometric="rgb",
                compression="jpeg",
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
                subfiletype=int(level is not pixels),
                metadata=None,
            )
    params = ShardParams(tile=256, region=256, stain=StainParams("none"))
    summary = run.shard(find([inverted]), tmp_path / "on", params, workers=1)
    assert "without `cross_check`, tiles are taken as they are" in summary.failures["a"].error
    off = replace(params, cross_check=False)
    summary = run.shard(find([inverted]), tmp_path / "off", off, workers=1)
    assert (summary.failures, summary.as_dict()["tiles"] > 0) == ({}, True)
    # build ids of datasets that were made before the option are still theirs
    assert "cross_check" not in params.as_dict()
    assert recorded(params.as_dict()).cross_check
    assert not recorded(off.as_dict()).cross_check
