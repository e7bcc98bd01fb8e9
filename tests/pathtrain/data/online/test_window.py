"""Which box of which level becomes a tile: never past an edge, never enlarged needlessly, in tissue."""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue as drawn_tissue
from helpers.slides import write_tiff

from pathprep.params.shard import ShardParams
from pathprep.slides.find import SlideSource
from pathprep.slides.readers.base import Level
from pathprep.surveying.task import survey_slide
from pathprep.surveys.record import Surveyed
from pathprep.surveys.tissue_bits import PackedMask
from pathtrain.data.online import window


def slide(
    tmp_path: Path, width: int, height: int, mpp: float, levels: tuple[Level, ...], mask: np.ndarray
) -> Surveyed:
    """What a survey would have of a slide of this size."""
    path = write_tiff(tmp_path / "s.tif", drawn_tissue(64, 64), mpp=0.5)
    found = survey_slide(SlideSource(path, name="s"), ShardParams(), "b")
    return Surveyed(
        **{
            **vars(found),
            "mpp": mpp,
            "width": width,
            "height": height,
            "levels": levels,
            "tissue": PackedMask.of(mask),
        }
    )


FULL = np.ones((50, 80), bool)
# of a real Aperio slide: 46000 / 4 and / 16 are rounded down, so that downsamples are no whole numbers
APERIO = (Level(46000, 32914, 1.0), Level(11500, 8228, 4.00012), Level(2875, 2057, 16.0004))


@pytest.mark.parametrize(
    ("mpp", "level", "side"),
    [
        (0.25, 0, 256),
        (0.5, 0, 512),
        (1.0, 1, 256),  # 4.00012 is 4: rounding must not send it to level 0, four times the pixels
        (2.0, 1, 512),
        (4.0, 2, 256),
        (0.125, 0, 128),  # enlarged: there is nothing finer
        (0.9, 0, 922),  # level 1 would be enlarged
    ],
)
def test_the_coarsest_level_that_is_as_fine(tmp_path: Path, mpp: float, level: int, side: int) -> None:
    found = window.scale_of(slide(tmp_path, 46000, 32914, 0.25, APERIO, FULL), mpp, 256)
    assert (found.level, found.side) == (level, side)
    assert found.mpp == pytest.approx(mpp, rel=0.005)


@pytest.mark.parametrize(
    ("mpp", "most", "level", "by", "side"),
    [
        (0.25, 8, 0, 1, 256),
        (0.45, 8, 0, 1, 461),  # halved, it would be enlarged
        (0.5, 8, 0, 2, 256),
        (0.9, 8, 0, 2, 461),
        (1.0, 8, 1, 1, 256),
        (8.0, 8, 2, 2, 256),
        (8.0, 1, 2, 1, 512),
    ],
)
def test_reduced_while_decoded_as_far_as_it_is_as_fine(
    tmp_path: Path, mpp: float, most: int, level: int, by: int, side: int
) -> None:
    taken = slide(tmp_path, 46000, 32914, 0.25, APERIO, FULL)
    found = window.scale_of(taken, mpp, 256, lambda level: most)
    assert (found.level, found.by, found.side) == (level, by, side)
    assert found.mpp == pytest.approx(mpp, rel=0.005)
    drawn_side = round(found.side * found.downsample)
    assert window.of_drawn(taken, found.level, found.by, drawn_side, found.mpp) == found
    bits = taken.tissue.unpacked()
    boxes = [window.draw(taken, bits, found, 0.4, 7, position) for position in range(300)]
    # no JPEG block that reaches over the edge, and as far as that
    right = max(box.x + side for box in boxes) * found.by
    assert APERIO[level].width - right < 0.05 * APERIO[level].width
    assert right <= APERIO[level].width // (16 if by > 1 else 1) * (16 if by > 1 else 1)


def test_no_box_leaves_its_level_and_each_has_its_tissue(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((10, 16)) < 0.4, np.ones((5, 5), bool))
    taken = slide(tmp_path, 46000, 32914, 0.25, APERIO, mask)
    bits = taken.tissue.unpacked()
    for mpp in (0.25, 1.0, 4.0, 8.0):
        scale = window.scale_of(taken, mpp, 256)
        boxes = [window.draw(taken, bits, scale, 0.4, 7, position) for position in range(200)]
        assert all(0 <= box.x <= scale.width - scale.side for box in boxes)
        assert all(0 <= box.y <= scale.height - scale.side for box in boxes)
        x, y = mask.shape[1] / scale.width, mask.shape[0] / scale.height
        for box in boxes[:20]:
            rows = slice(round(box.y * y), max(round(box.y * y) + 1, round((box.y + scale.side) * y)))
            columns = slice(round(box.x * x), max(round(box.x * x) + 1, round((box.x + scale.side) * x)))
            assert box.tissue == pytest.approx(mask[rows, columns].mean(), abs=0.35)
        least = 0.4 if mpp < 8 else 0.25
        assert min(box.tissue for box in boxes) >= least


def test_boxes_are_in_proportion_to_tissue_and_up_to_the_edges(tmp_path: Path) -> None:
    """A slide whose right half is tissue: none beside it, and the edges are reached."""
    mask = np.zeros((50, 80), bool)
    mask[:, 40:] = True
    levels = (Level(8000, 5000, 1.0),)
    taken = slide(tmp_path, 8000, 5000, 0.5, levels, mask)
    scale = window.scale_of(taken, 0.5, 500)
    bits = taken.tissue.unpacked()
    boxes = [window.draw(taken, bits, scale, 1.0, 1, position) for position in range(400)]
    x, y = np.array([box.x for box in boxes]), np.array([box.y for box in boxes])
    assert x.min() >= 4000
    assert x.max() > 7450
    assert y.max() > 4450
    assert y.min() < 50
    # the middle of what is allowed is drawn about as often as anything else
    assert 0.35 < np.mean((x > 4875) & (x < 6625)) < 0.65


def test_a_slide_just_as_large_as_its_tile(tmp_path: Path) -> None:
    """Random coordinates below a size of zero or less are where other samplers read past the edge."""
    taken = slide(tmp_path, 512, 512, 0.25, (Level(512, 512, 1.0), Level(256, 256, 2.0)), FULL)
    for mpp, side in ((0.5, 256), (0.25, 256)):
        scale = window.scale_of(taken, mpp, 256)
        box = window.draw(taken, taken.tissue.unpacked(), scale, 0.4, 0)
        assert scale.side == side
        assert max(box.x, box.y) + side <= scale.width


def test_little_tissue_gives_the_best_there_is(tmp_path: Path) -> None:
    mask = np.zeros((50, 80), bool)
    mask[25, 40] = True
    taken = slide(tmp_path, 8000, 5000, 0.5, (Level(8000, 5000, 1.0),), mask)
    box = window.draw(taken, taken.tissue.unpacked(), window.scale_of(taken, 0.5, 256), 0.4, 3)
    assert 0 < box.tissue < 0.4
    assert box.x <= 4100
    assert box.x + 256 >= 4000


def test_the_same_key_gives_the_same_box(tmp_path: Path) -> None:
    taken = slide(tmp_path, 46000, 32914, 0.25, APERIO, FULL)
    bits, scale = taken.tissue.unpacked(), window.scale_of(taken, 0.5, 256)
    same, again, other = (window.draw(taken, bits, scale, 0.4, *key) for key in ((1, 2), (1, 2), (1, 3)))
    assert same == again != other
