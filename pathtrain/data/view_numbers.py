"""A view's drawn parameters as the row of numbers that CPU and GPU take: one array for all views of a batch,
since what DALI is fed costs the training thread by the array."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.kernels import colour_reference as colour
from pathtrain.data.view_params import Drawn

# Of a row: the box's corners, y then x, as shares of the tile; mirrored, its end comes before its start
START, END = slice(0, 2), slice(2, 4)
COLOUR = slice(4, 4 + colour.SETTINGS)
# Whether rows and columns change places; the blur's sigma in pixels, 0 for none; whether it is solarised
TRANSPOSE, SIGMA, SOLARISE = range(COLOUR.stop, COLOUR.stop + 3)
WIDTH = SOLARISE + 1


def packed(drawn: Drawn) -> npt.NDArray[np.float32]:
    """Rows (B, V, WIDTH) of the drawn parameters (B, V)."""
    # a quarter turn is a mirror, then a transposition; half a turn is both mirrors
    odd, half = drawn.turn % 2 == 1, drawn.turn == 2
    mirrored = np.stack(
        [drawn.flip_vertical ^ half ^ (drawn.turn == 3), drawn.flip ^ half ^ (drawn.turn == 1)], axis=-1
    )
    out = np.empty((*drawn.turn.shape, WIDTH), np.float32)
    out[..., START] = np.where(mirrored, drawn.end, drawn.start)
    out[..., END] = np.where(mirrored, drawn.start, drawn.end)
    factors: Any = (drawn.brightness, drawn.contrast, drawn.saturation)
    brightness, contrast, saturation = (np.where(drawn.jitter, factor, 1.0).ravel() for factor in factors)
    hue = np.where(drawn.jitter, drawn.hue, 0.0).ravel()
    settings = colour.settings(brightness, contrast, saturation, hue, drawn.grey.ravel().astype(np.float64))
    out[..., COLOUR] = settings.reshape(*drawn.turn.shape, colour.SETTINGS)
    out[..., TRANSPOSE] = odd
    out[..., SIGMA] = np.where(drawn.blur, drawn.sigma, 0.0)
    out[..., SOLARISE] = drawn.solarise
    return out
