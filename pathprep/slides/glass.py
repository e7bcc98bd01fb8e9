"""The colour of bare glass, whatever its tint and brightness: as flat as only glass is."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.slides.readers.base import Pixels

# Of the brightest pixels, a quarter at least are calm: none of their eight neighbours differs by more grey
# levels. That quartile is 0 to 6 on the glass of 85 real slides at 8 um/px, 13 on a sharpened thumbnail; in
# 90 real fields within tissue it is 11 and above, mostly 60 and above; in pale stroma between nuclei 29. The
# less colour, the less calm will do: no tissue is grey. SATURATION (0 to 255) is what glass has at most under
# most scanners.
CALM, CALM_IF_GREY, SATURATION = 8, 20, 20
SAMPLE = 2000  # of the brightest pixels, evenly spaced
DARKEST = 64  # of a channel: through less no light passes
PINK = 8  # grey levels of green below the others
NEAR, EVERYWHERE = 6, 0.98  # grey levels around one colour; share of a view that is nothing else


def glass_colour(overview: Pixels) -> npt.NDArray[np.int32] | None:
    """(3,) colour of the bare glass, 1 to 255; None where there is none in view.

    The median of the 5 % of pixels that are brightest in their darkest channel, if they are flat: tissue,
    however pale, is not. A view that is nothing but one strong flat pink is taken for pale tissue.

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
    high = int(colour.max())
    if colour.min() < DARKEST:
        return None
    coloured = min(1.0, 255 * (high - int(colour.min())) / (SATURATION * high))
    if _unrest(overview, brightest) > CALM_IF_GREY + coloured * (CALM - CALM_IF_GREY):
        return None
    return colour if coloured < 1 or not _all_pink(overview, colour) else None


def _unrest(overview: Pixels, where: npt.NDArray[np.bool_]) -> float:
    """Grey levels by which neighbours differ from the calmest quarter of the pixels there, at most."""
    found = np.flatnonzero(where)
    rows, columns = np.divmod(found[:: max(1, len(found) // SAMPLE)], where.shape[1])
    values = overview[rows, columns].astype(np.int16)
    worst = np.zeros(len(rows), np.int16)
    for down, right in np.ndindex(3, 3):
        there = (rows + down - 1).clip(0, len(where) - 1), (columns + right - 1).clip(0, where.shape[1] - 1)
        np.maximum(worst, np.abs(overview[there] - values).max(1), out=worst)
    return float(np.quantile(worst, 0.25))


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
