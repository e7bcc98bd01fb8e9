"""What a slide looks like that an ordinary H&E slide does not, by code: for the marker, the account, the page."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pathprep.slides.glass import DARKEST, quantile
from pathprep.slides.readers.base import Pixels

Note = Literal["all_tissue", "no_tissue", "dark_background", "not_he"]

WORDS: dict[Note, str] = {
    "all_tissue": "the whole slide (100 %) counts as tissue: a field within tissue, or glass that was not "
    "told from it",
    "no_tissue": "no tissue was found",
    "dark_background": "no light passes the background (fluorescence, or not a picture of a slide): stain "
    "is not normalised",
    "not_he": "does not look like H&E: hardly anything is pink (IHC, or another stain)",
}
ODD_MPP = "MPP unlike that of the other slides"

# A view of tissue alone still has a few pixels of lumen
ALL_TISSUE = 0.995
DARK_SHARE = 0.01  # of the pixels must be brighter than DARKEST in every channel

# Stained pixels absorb so much more in one channel than in another, and so much in all (natural logarithm)
CHROMA, DENSITY = 0.1, 0.15
# Eosin: green is absorbed most, red and blue are at most these shares of it. Of 60 LC25000 slides with
# strong drawn casts the palest has 6.7 % of such pixels, of 65 real H&E fields and sections the least 24 %;
# of seven IHC sections (DAB with haematoxylin, five antibodies) the most has 3.2 %.
RED, BLUE, PINK_SHARE = 0.8, 0.95, 0.05
ENOUGH = 30  # stained pixels to judge by


def notes(picture: Pixels, glass: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]) -> tuple[Note, ...]:
    """Codes of what is unlike an ordinary H&E slide; usually none.

    Args:
        picture: (h, w, 3) uint8, the slide as tissue is looked for on it.
        glass: (3,) its glass's colour. mask: (h, w) the tissue.
    """
    found: list[Note] = []
    share = float(mask.mean())
    if share >= ALL_TISSUE:
        found.append("all_tissue")
    elif not share:
        found.append("no_tissue")
    if _dark(picture):
        found.append("dark_background")
    elif _not_pink(picture, glass):
        found.append("not_he")
    return tuple(found)


def in_words(code: str) -> str:
    """A code as a sentence; one of a later version as it is."""
    return next((WORDS[each] for each in get_args(Note) if each == code), code)


def _dark(picture: Pixels) -> bool:
    darkest = picture.min(2)
    return quantile(np.bincount(darkest.ravel(), minlength=256), 1 - DARK_SHARE) < DARKEST


def _not_pink(picture: Pixels, glass: npt.NDArray[np.int32]) -> bool:
    """Whether there is stain, and hardly any of it is eosin's."""
    tables = [-np.log((np.arange(256) + 1.0) / (light + 1.0)).astype(np.float32) for light in glass.tolist()]
    red, green, blue = (tables[k][picture[:, :, k]] for k in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    stained = (high > DENSITY) & (high - low > CHROMA) & (low > -CHROMA)
    count = int(stained.sum())
    pink = stained & (red <= RED * green) & (blue <= BLUE * green)
    return count >= ENOUGH and int(pink.sum()) < PINK_SHARE * count
