"""The colour of bare glass, whatever its tint and brightness: as flat as only glass is."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.slides.readers.base import Pixels

# Of the brightest pixels, a quarter at least are calm: none of their eight neighbours differs by more grey
# levels. That quartile is 0 to 6 on the glass of 85 real slides at 8 um/px; 11 and above in 90 real fields
# within tissue, 29 in pale stroma between nuclei.
CALM = 8
SAMPLE = 2000  # of the brightest pixels, evenly spaced
DARKEST = 64  # of a channel: through less no light passes
PINK = 8  # grey levels of green below the others
NEAR, EVERYWHERE = 6, 0.98  # grey levels around one colour; share of a view that is nothing else


def glass_colour(overview: Pixels) -> npt.NDArray[np.int32] | None:
    """(3,) colour of the bare glass, 1 to 255; None where there is none in view.

    The median of the 5 % of pixels that are brightest in their darkest channel, if they are flat: tissue,
    however pale, is not. A view that is one flat pink is taken for pale tissue: on glass there is something.

    Args:
        overview: (h, w, 3) uint8, at 8 micrometres per pixel where the slide allows.
    """
    darkest = np.minimum(np.minimum(overview[:, :, 0], overview[:, :, 1]), overview[:, :, 2])
    least = quantile(Image.fromarray(darkest).histogram(), 0.95)
    brightest = darkest >= least
    counts = np.reshape(
        Image.fromarray(overview).histogram(Image.fromarray(brightest.view(np.uint8) * np.uint8(255))),
        (3, 256),
    )
    colour = np.array([quantile(channel, 0.5) for channel in counts]).astype(np.int32)
    if colour.min() >= DARKEST and _flat(overview, brightest) and not _all_pink(overview, colour):
        return colour
    return None


def _flat(overview: Pixels, where: npt.NDArray[np.bool_]) -> bool:
    """Whether a quarter of the pixels there are calm."""
    found = np.flatnonzero(where)
    rows, columns = np.divmod(found[:: max(1, len(found) // SAMPLE)], where.shape[1])
    values = overview[rows, columns].astype(np.int16)
    worst = np.zeros(len(rows), np.int16)
    for down, right in np.ndindex(3, 3):
        there = (rows + down - 1).clip(0, len(where) - 1), (columns + right - 1).clip(0, where.shape[1] - 1)
        np.maximum(worst, np.abs(overview[there] - values).max(1), out=worst)
    return float(np.quantile(worst, 0.25)) <= CALM


def _all_pink(overview: Pixels, colour: npt.NDArray[np.int32]) -> bool:
    """Whether nearly the whole view is this one colour, and it is an eosin's: green is what is missing."""
    red, green, blue = colour.tolist()
    if min(red, blue) - green < PINK:
        return False
    near = np.abs(overview.astype(np.int16) - colour).max(2) <= NEAR
    return bool(near.mean() > EVERYWHERE)


def quantile(counts: npt.ArrayLike, share: float) -> float:
    """np.quantile of whole numbers of which there are so many each."""
    ends = np.cumsum(counts)
    place = share * (ends[-1] - 1)
    low, high = np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")
    return float(low + (high - low) * (place % 1))
