"""Augmentation parameters: reproducible from the position alone, with torchvision's distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from pathprep import stain
from pathtrain.data import view_params
from pathtrain.recipes.load import load
from pathtrain.stain import stage as stain_stage

RECIPE = load("exaonepath1")
MANY = 20_000


def draw(number: int, positions: np.ndarray, seed: int = 0) -> view_params.Drawn:
    """One view of each tile."""
    drawn = view_params.draw(RECIPE.views, view_params.views(RECIPE.views), positions, seed)
    return view_params.Drawn(**{name: values[:, number] for name, values in vars(drawn).items()})


def test_views_follow_the_recipe() -> None:
    views = view_params.views(RECIPE.views)
    assert [view.size for view in views] == [224] * 2 + [96] * 8
    assert [view.blur for view in views] == [1.0, 0.1] + [0.5] * 8
    assert [view.solarise for view in views] == [0.0, 0.2] + [0.0] * 8


def test_parameters_depend_on_the_position_alone() -> None:
    positions = np.array([0, 5, 10**12, 77])
    together = draw(3, positions)
    for index, position in enumerate(positions):
        alone = draw(3, np.array([position]))
        for name, values in vars(together).items():
            assert np.array_equal(getattr(alone, name)[0], values[index]), name


@pytest.mark.parametrize("change", ["view", "seed", "position"])
def test_views_seeds_and_positions_differ(change: str) -> None:
    positions = np.arange(100)
    first = draw(2, positions)
    other = {
        "view": lambda: draw(3, positions),
        "seed": lambda: draw(2, positions, seed=1),
        "position": lambda: draw(2, positions + 100),
    }[change]()
    for name in ("start", "end", "brightness", "hue", "sigma"):
        assert not np.isin(getattr(first, name), getattr(other, name)).any()


@pytest.mark.parametrize("number", [0, 2])
def test_crops_are_distributed_as_torchvisions(number: int) -> None:
    view = view_params.views(RECIPE.views)[number]
    drawn = draw(number, np.arange(MANY))
    side = 4096  # so that torchvision's rounding to pixels does not show
    torch.manual_seed(0)
    image = torch.empty(1, 1, 1).expand(1, side, side)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(view.scale), list(RECIPE.views.ratio)) for _ in range(3000)]
    )
    top, left, height, width = theirs.T / side
    size = drawn.end - drawn.start
    for ours, other in (
        (drawn.start[:, 0], top),
        (drawn.start[:, 1], left),
        (size[:, 0], height),
        (size[:, 1], width),
        (size.prod(axis=1), height * width),
    ):
        assert stats.ks_2samp(ours, other).pvalue > 1e-3
    assert drawn.start.min() >= 0
    assert drawn.end.max() <= 1


def test_a_crop_that_never_fits_falls_back_to_the_largest_centred_box() -> None:
    config = RECIPE.views.model_copy(update={"ratio": (2.0, 4.0)})
    drawn = view_params.draw(config, [view_params.View(224, (1.0, 1.0), 0, 0)], np.arange(50), 0)
    size = drawn.end - drawn.start
    assert np.allclose(size, [0.5, 1])  # height half, width whole: the nearest ratio is 2
    assert np.allclose(drawn.start, [0.25, 0])


def test_probabilities_and_ranges() -> None:
    drawn = [draw(number, np.arange(MANY)) for number in (0, 1, 2)]
    tolerance = 5 * math.sqrt(0.25 / MANY)
    for flags, expected in (
        (drawn[0].flip, 0.5),
        (drawn[0].jitter, 0.8),
        (drawn[0].grey, 0.2),
        (drawn[0].blur, 1.0),
        (drawn[1].blur, 0.1),
        (drawn[2].blur, 0.5),
        (drawn[0].solarise, 0.0),
        (drawn[1].solarise, 0.2),
    ):
        assert flags.mean() == pytest.approx(expected, abs=tolerance)
    for values, low, high in (
        (drawn[0].brightness, 0.6, 1.4),
        (drawn[0].contrast, 0.6, 1.4),
        (drawn[0].saturation, 0.8, 1.2),
        (drawn[0].hue, -0.1, 0.1),
        (drawn[0].sigma, 0.1, 2.0),
    ):
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_draws_are_independent_of_each_other() -> None:
    drawn = draw(0, np.arange(MANY))
    columns = np.stack(
        [drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue, drawn.sigma, drawn.flip]
    )
    off = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(off).max() < 5 / math.sqrt(MANY)


def test_stain_numbers_are_uniform_and_depend_on_the_position_alone() -> None:
    numbers = stain_stage.draw(np.arange(MANY), 0)
    assert numbers.shape == (MANY, stain.NUMBERS)
    for column in numbers.T:
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    off = np.corrcoef(np.concatenate([numbers.T, [draw(0, np.arange(MANY)).brightness]])) - np.eye(9)
    assert np.abs(off).max() < 5 / math.sqrt(MANY)
    assert np.array_equal(stain_stage.draw(np.array([77, 5]), 0), numbers[[77, 5]])
    assert not np.isin(stain_stage.draw(np.arange(100), 1), numbers).any()


def test_stain_numbers_of_views_are_independent_of_each_other_and_of_the_tiles() -> None:
    views = stain_stage.draw(np.arange(MANY), 0, 3)
    assert views.shape == (MANY, 3, stain.NUMBERS)
    numbers = np.concatenate([views.reshape(MANY, -1).T, stain_stage.draw(np.arange(MANY), 0).T])
    for column in numbers:
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    off = np.corrcoef(numbers) - np.eye(len(numbers))
    assert np.abs(off).max() < 5 / math.sqrt(MANY)
    assert np.array_equal(stain_stage.draw(np.array([77, 5]), 0, 3), views[[77, 5]])
    assert np.array_equal(stain_stage.draw(np.array([77]), 0, 2), views[[77], :2])  # not of their number


def test_flips_and_turns_come_as_often_as_said() -> None:
    config = RECIPE.views.model_copy(update={"flip_vertical": 0.3, "turn": 0.75})
    drawn = view_params.draw(config, view_params.views(config)[:1], np.arange(MANY), 0)
    assert np.abs(np.bincount(drawn.turn[:, 0]) / MANY - 0.25).max() < 0.015
    assert (drawn.flip.mean(), drawn.flip_vertical.mean()) == pytest.approx((0.5, 0.3), abs=0.015)
    plain = draw(0, np.arange(MANY))
    assert not plain.flip_vertical.any()
    assert not plain.turn.any()
    assert np.array_equal(plain.flip, drawn.flip[:, 0])


def test_extended_context_is_a_narrow_scale_of_a_larger_tile() -> None:
    """Views of 224 and 96 px out of tiles of 512 px, near their own resolution and anywhere: the worked
    example of docs/guides/mixing.md (Virchow2 calls it extended context)."""
    recipe = load(
        "exaonepath1",
        [
            "views.globals.scale=[0.174, 0.21]",
            "views.locals.scale=[0.032, 0.039]",
            "views.ratio=[0.95, 1.0526]",
        ],
    )
    drawn = view_params.draw(recipe.views, view_params.views(recipe.views), np.arange(MANY // 4), 0)
    sides = 512 * (drawn.end - drawn.start)  # (B, V, 2) source pixels
    sizes = np.array([224] * 2 + [96] * 8)[:, None]
    zoom = sizes / sides
    assert 0.92 < zoom.min() < 0.94
    assert 1.07 < zoom.max() < 1.09
    assert np.abs(np.log(zoom)).mean() < 0.03
    stretch = sides[..., 0] / sides[..., 1]
    assert 0.949 < stretch.min() < stretch.max() < 1.054
    # anywhere: both ends of the tile are reached, no place is preferred
    room = drawn.start / (1 - (drawn.end - drawn.start))
    assert np.abs(np.quantile(room, [0.05, 0.5, 0.95]) - [0.05, 0.5, 0.95]).max() < 0.01
