"""What the curve of a learning rate range test shows: where it falls, where it stops, where it breaks.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3. What is read is DINO's loss
less the teacher's entropy, the divergence of the student from the teacher in nats: the loss itself also moves
with the teacher's temperature and sharpness. Two networks that collapse agree at once, and their curve falls
as that of one that learns, to 0. What tells them apart is what an output says of its tile: the entropy of the
mean output less the mean entropy of the outputs, their mutual information, which collapses of both kinds (all
outputs alike, one output for all) bring to 0. The curve is read up to where half of it is lost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SMOOTHED = 20  # a point is the mean of a twentieth of the curve on either side, weighted by nearness
REGAINED = 0.1  # of its fall: then the curve rises again
# Of the most that an output has said of its tile: with less it is on its way, or has collapsed
HALF, LOST = 0.5, 0.1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """Learning rates where the curve does something; None where it does not.

    Attributes:
        smoothed: of each step, nats; without lag, so that a rate is where it belongs.
        steepest: it falls most for each factor of the rate.
        lowest: its lowest point.
        rises: from there on it has regained a tenth of its fall.
        collapsed: from there to the end an output says next to nothing of its tile.
        range: a peak rate to try lies in it: from the steepest fall to the lowest point; None if the curve
            does not fall. All of it lies before outputs say less than half of what they did.
    """

    smoothed: list[float]
    steepest: float | None
    lowest: float | None
    rises: float | None
    collapsed: float | None
    range: tuple[float, float] | None


def read(rates: Sequence[float], divergences: Sequence[float], told: Sequence[float]) -> Reading:
    """Read a curve of finite values.

    Args:
        rates: (N,) rising by one factor.
        divergences: (N,) loss less the teacher's entropy, nats, of each step before it is taken.
        told: (N,) what an output says of its tile, nats.
    """
    xs, ys = np.log10(np.asarray(rates, float)), np.asarray(divergences, float)
    width = max(1, len(ys) // SMOOTHED)
    shown = _smooth(ys, width).tolist()
    telling = _smooth(np.asarray(told, float), width)
    lost, end = _below(telling, LOST), _below(telling, HALF)
    collapsed = float(rates[lost]) if lost < len(ys) else None
    nothing = Reading(shown, None, None, None, collapsed, None)
    if end < len(ys):
        end -= width  # smoothing has moved it, no further than so
    if end <= 3 * width:
        return nothing
    smooth = _smooth(ys[:end], width)
    lowest = int(smooth.argmin())
    fall = smooth[: lowest + 1].max() - smooth[lowest]
    # by chance alone a mean of 2 w + 1 values wanders by about their scatter over the root of as many
    scatter = float(np.std(np.diff(ys[:end]))) / math.sqrt(2 * (2 * width + 1))
    if lowest <= width or fall <= 4 * scatter:
        return nothing
    slopes = np.gradient(smooth, xs[:end])[width:lowest]
    steepest = width + int(slopes.argmin())
    risen = np.flatnonzero(smooth[lowest:] > smooth[lowest] + REGAINED * fall)
    rises = float(rates[lowest + int(risen[0])]) if len(risen) else None
    between = float(rates[steepest]), float(rates[lowest])
    return Reading(shown, *between, rises, collapsed, between)


def _smooth(ys: Floats, width: int) -> Floats:
    """Means weighted by a triangle, ``width`` steps on either side; at the ends, of those that are there."""
    weights = np.concatenate([np.arange(1, width + 2), np.arange(width, 0, -1)]).astype(float)
    found: Floats = np.convolve(ys, weights, "same") / np.convolve(np.ones(len(ys)), weights, "same")
    return found


def _below(told: Floats, share: float) -> int:
    """The first step from which on no more than a share of the most is told; N if it is more to the end."""
    return int(np.flatnonzero(told > share * told.max())[-1]) + 1 if told.max() > 0 else 0
