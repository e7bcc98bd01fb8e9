"""What is refused before memory is taken for it."""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff

from pathprep.errors import UnreadableSlide
from pathprep.params.shard import ShardParams
from pathprep.sharding.survey import survey
from pathprep.slides.readers import limits
from pathprep.slides.readers.base import Level
from pathprep.slides.slide import Slide

HERE = Path("a.svs")


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "holds no level"),
        ([(0, 10)], "declared as 0x10 px"),
        ([(1 << 21, 10)], "outside 1 to 1048576"),
        ([(1000, 800), (2000, 1600)], "level 1 is declared as 2000x1600 px, larger than level 0"),
        ([(4000, 3000), (2000, 800)], "no reduction of level 0"),
    ],
)
def test_levels(levels: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(UnreadableSlide, match=rf"a\.svs: .*{message}"):
        limits.check_levels(HERE, [Level(w, h, 1.0) for w, h in levels])


def test_levels_that_are_rounded_or_padded_pass() -> None:
    sizes = [(46000, 32914), (11500, 8228), (2875, 2057), (1438, 1030), (22, 16), (1, 1)]
    limits.check_levels(HERE, [Level(w, h, 46000 / w) for w, h in sizes])


def test_the_tile_table(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(1000))

    def check(offsets: list[int], counts: list[int], pixels: int = 256) -> None:
        limits.check_tile_table(path, 0, np.array(offsets, np.uint64), np.array(counts, np.uint64), 2, pixels)

    check([0, 500], [500, 500])
    check([2**63, 0], [0, 0])  # tiles that are not there
    for offsets, counts, message in [
        ([0], [10], "needs 2 native tiles, its tables list 1 offsets"),
        ([0, 501], [500, 500], "1 of 2 native tiles .* beyond the end .* tile 1"),
        ([0, 2**64 - 1], [500, 2], "beyond the end"),
        ([0, 5], [2**64 - 1, 5], "beyond the end"),
    ]:
        with pytest.raises(UnreadableSlide, match=message):
            check(offsets, counts)
    path.write_bytes(bytes(100_000))
    with pytest.raises(UnreadableSlide, match="declared as 90000 bytes for 256 pixels"):
        check([0, 0], [90_000, 10])


def test_a_wrong_mpp_makes_no_huge_overview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_OVERVIEW", 1000 * 700)
    path = write_tiff(tmp_path / "a.tif", tissue(900, 1100))
    with Slide(path) as slide:
        slide.overview(2.0)
        with pytest.raises(UnreadableSlide, match="overview would have 1100x900 px, .* mpp column"):
            slide.overview(1.0)


def test_cells_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue(900, 1100))
    with Slide(path) as slide:
        monkeypatch.setattr(limits, "MAX_CELLS", 200)
        with pytest.raises(UnreadableSlide, match="17x14 tiles, more than 200; use larger tiles"):
            survey(slide, ShardParams(tile=64, region=256))
        monkeypatch.setattr(limits, "MAX_BLOCK", 100_000)
        slide.read(0, 0, 0, 300, 300)
        with pytest.raises(UnreadableSlide, match="a tile would need 400x400 px at once"):
            slide.read(0, 0, 0, 400, 400)


def test_the_figures_hold_for_the_largest_slides() -> None:
    # 200 x 150 mm of glass at 0.25 micrometres, in tiles of 256 px
    limits.check_levels(HERE, [Level(800_000, 600_000, 1.0)])
    limits.check_cells(HERE, 800_000 // 256, 600_000 // 256)
    # four ordinary slides' worth of glass
    limits.check_overview(HERE, 100_000 // 8, 75_000 // 8)
