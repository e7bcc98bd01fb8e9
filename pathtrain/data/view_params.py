"""What each view of each tile looks like, as a pure function of (seed, position, view).

DALI only carries these parameters out. Its own random operators are seeded per pipeline and advance
with every batch, so what a tile looks like would depend on batch size, number of ranks and where a run
was resumed, and resuming would need DALI's checkpoints, which accept another batch size without a word.
Here every random number is a hash of integers: nothing has state, and a resume needs the step alone.

Distributions are torchvision's (RandomResizedCrop, ColorJitter, ...) with two differences: crop boxes
are relative and continuous, not rounded to pixels, so that they do not depend on the stored size; and
colour operations keep one order (see pathprep.kernels.colour_reference), which ColorJitter shuffles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathtrain.data.order import Ints, hashed, uniform
from pathtrain.recipes.recipe import ViewsConfig

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Keep these hashes apart from each other and from those of the sample order
_STREAM = 0x76696577
_TRIES = 10  # RandomResizedCrop's


@dataclass(frozen=True)
class View:
    """One of a tile's views.

    Attributes:
        size: output pixels, square.
        scale: range of area shares.
        blur, solarise: probabilities.
        coloured: whether its colours may change.
        turned: whether it may be turned by quarters.
    """

    size: int
    scale: tuple[float, float]
    blur: float
    solarise: float
    coloured: bool = True
    turned: bool = False


@dataclass(frozen=True)
class Drawn:
    """V views of B tiles; arrays are (B, V), or (B, V, 2) where it says so.

    Attributes:
        start, end: (B, V, 2) crop box, y then x, as shares of the tile's side, 0 to 1.
        flip, flip_vertical: mirror left and right, then top and bottom.
        turn: 0 to 3 quarter turns counter-clockwise, after the flips.
        jitter: whether the four colour factors apply.
        brightness, contrast, saturation: factors, 1 changes nothing.
        hue: share of the colour circle, -0.5 to 0.5.
        grey, solarise: whether it is.
        blur: whether to blur, with sigma in pixels.
    """

    start: Floats
    end: Floats
    flip: Flags
    flip_vertical: Flags
    turn: Ints
    jitter: Flags
    brightness: Floats
    contrast: Floats
    saturation: Floats
    hue: Floats
    grey: Flags
    blur: Flags
    sigma: Floats
    solarise: Flags


def views(config: ViewsConfig) -> list[View]:
    """The views of a tile in their order: globals first."""
    coloured = bool(config.jitter.p or config.greyscale)
    return [
        View(
            crop.size,
            crop.scale,
            crop.blur[number % len(crop.blur)],
            crop.solarise[number % len(crop.solarise)],
            coloured,
            bool(config.turn),
        )
        for crop in (config.globals, config.locals)
        for number in range(crop.count)
    ]


def draw(config: ViewsConfig, views: Sequence[View], positions: Ints, seed: int) -> Drawn:
    """Parameters of V views at each position of the run.

    Args:
        views: all of a tile's, in their order, or the first ones of them.
        positions: (B,) places in the run (pathtrain.data.order), which differ in every epoch.
    """
    words = hashed(seed, _STREAM, positions[:, None], np.arange(len(views)))
    numbers = uniform(words.ravel(), 2 * _TRIES + 15).reshape(*words.shape, -1)
    areas, ratios, colours, rest = np.split(numbers, [_TRIES, 2 * _TRIES, 2 * _TRIES + 6], axis=-1)
    jitter, brightness, contrast, saturation, hue, grey = np.moveaxis(colours, -1, 0)
    at_y, at_x, flip, flip_vertical, turn, quarters, blur, sigma, solarise = np.moveaxis(rest, -1, 0)
    scale = np.array([view.scale for view in views])
    start, end = _crop(areas, ratios, np.stack([at_y, at_x], axis=-1), scale, config.ratio)
    strength = config.jitter
    return Drawn(
        start=start,
        end=end,
        flip=flip < config.flip,
        flip_vertical=flip_vertical < config.flip_vertical,
        turn=np.where(turn < config.turn, 1 + np.floor(3 * quarters), 0).astype(np.int64),
        jitter=jitter < strength.p,
        brightness=_between(brightness, max(0, 1 - strength.brightness), 1 + strength.brightness),
        contrast=_between(contrast, max(0, 1 - strength.contrast), 1 + strength.contrast),
        saturation=_between(saturation, max(0, 1 - strength.saturation), 1 + strength.saturation),
        hue=_between(hue, -strength.hue, strength.hue),
        grey=grey < config.greyscale,
        blur=blur < np.array([view.blur for view in views]),
        sigma=_between(sigma, *config.blur_sigma),
        solarise=solarise < np.array([view.solarise for view in views]),
    )


def _between(numbers: Floats, low: Floats | float, high: Floats | float) -> Floats:
    return low + numbers * (high - low)


def _crop(
    areas: Floats, ratios: Floats, place: Floats, scale: Floats, ratio: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Corners (B, V, 2) of the first of the tries (B, V, tries) that fits, else of the largest allowed box,
    centred.

    As torchvision's RandomResizedCrop.get_params on a square image of side 1; ``place`` (B, V, 2) in [0, 1)
    is where in its free room the box lies; ``scale`` (V, 2).
    """
    area = _between(areas, scale[:, :1], scale[:, 1:])
    aspect = np.exp(_between(ratios, np.log(ratio[0]), np.log(ratio[1])))
    sides = np.sqrt(np.stack([area / aspect, area * aspect], axis=-1))  # (B, V, tries, height and width)
    fits = (sides <= 1).all(axis=-1)
    fitting = np.any(fits, axis=-1, keepdims=True)
    first = np.take_along_axis(sides, fits.argmax(axis=-1)[..., None, None], axis=-2)[..., 0, :]
    nearest = min(max(1.0, ratio[0]), ratio[1])
    size = np.where(fitting, first, np.minimum([1 / nearest, nearest], 1))
    start = np.where(fitting, place, 0.5) * (1 - size)
    return start, np.minimum(start + size, 1)
