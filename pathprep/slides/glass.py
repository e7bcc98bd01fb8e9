"""The colour of bare glass, whatever its tint: as bright and grey as usual, or else as flat as only glass is."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.slides.readers.base import Pixels

# Glass under most scanners is above 200 in every channel, and its saturation (0 to 255) under 20. What is
# neither is glass all the same if it is flat.
GLASS_MIN, GLASS_SATURATION = 200, 20
# Median difference of neighbours, grey levels at 8 um/px: 0 to 3 on the glass of 80 real slides; 5 and above in
# the palest part of 90 real fields of tissue, 7 and above in those that are too dark or colourful for the
# bounds above.
FLAT = 3
DARKEST = 64  # of a channel: through less no light passes
NEAR, EVERYWHERE = 6, 0.98  # grey levels around one colour; share of a view that is nothing else


def glass_colour(overview: Pixels) -> npt.NDArray[np.int32]:
    """(3,) colour of the bare glass, 1 to 255; white where the brightest pixels are not glass.

    The median of the 5 % of pixels that are brightest in their darkest channel, if that is bright and
    nearly grey, or flat. A view that is one flat pink is taken for pale tissue: on glass there is something.

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
    low, high = int(colour.min()), int(colour.max())
    if low >= GLASS_MIN and 255 * (high - low) <= GLASS_SATURATION * high:
        return colour
    if low >= DARKEST and _flat(overview, brightest) and not _all_pink(overview, colour):
        return colour
    return np.full(3, 255, np.int32)


def _flat(overview: Pixels, where: npt.NDArray[np.bool_]) -> bool:
    """Whether most pixels there hardly differ from their neighbours to the right and below."""
    values = overview.astype(np.int16)
    across = np.abs(np.diff(values, axis=1)).max(2)[where[:, :-1]]
    down = np.abs(np.diff(values, axis=0)).max(2)[where[:-1]]
    differences = np.concatenate([across, down])
    return bool(len(differences)) and float(np.median(differences)) <= FLAT


def _all_pink(overview: Pixels, colour: npt.NDArray[np.int32]) -> bool:
    """Whether nearly the whole view is this one colour, and it is an eosin's: green is what is missing."""
    if colour[1] != colour.min():
        return False
    near = np.abs(overview.astype(np.int16) - colour).max(2) <= NEAR
    return bool(near.mean() > EVERYWHERE)


def quantile(counts: npt.ArrayLike, share: float) -> float:
    """np.quantile of whole numbers of which there are so many each."""
    ends = np.cumsum(counts)
    place = share * (ends[-1] - 1)
    low, high = np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")
    return float(low + (high - low) * (place % 1))
