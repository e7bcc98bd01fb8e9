"""What a slide looks like that an ordinary H&E slide does not, by code: for marker, account and page."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from pathprep.params.notes import ODD_MPP, Note
from pathprep.slides.glass import DARKEST, quantile
from pathprep.slides.readers.base import Pixels

# Slides within NEAR_MPP of each other share a resolution; it is usual if so many of all do, two at least
NEAR_MPP, USUAL_SHARE, ENOUGH_SLIDES = 1.2, 0.1, 4

# A view of tissue alone still has a few pixels of lumen
ALL_TISSUE = 0.995
DARK_SHARE = 0.01  # of the pixels must be brighter than DARKEST in every channel

# Stained pixels absorb so much more in one channel than in another, and so much in all (natural logarithm)
CHROMA, DENSITY = 0.1, 0.15
# Eosin: green is absorbed most, red and blue are at most these shares of it. Of 60 LC25000 slides with
# strong drawn casts the palest has 6.7 % of such pixels, of 65 real H&E fields and sections the least 24 %;
# of seven IHC sections (DAB with haematoxylin, five antibodies) the most has 3.2 %.
RED, BLUE, PINK_SHARE = 0.8, 0.95, 0.045
ENOUGH = 30  # stained pixels to judge by


def notes(
    picture: Pixels, glass: npt.NDArray[np.int32] | None, mask: npt.NDArray[np.bool_]
) -> tuple[Note, ...]:
    """Codes of what is unlike an ordinary H&E slide; usually none.

    Args:
        picture: (h, w, 3) uint8, the slide as tissue is looked for on it.
        glass: (3,) its glass's colour; None: there is none in view. mask: (h, w) the tissue.
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


def by_note(notes: Mapping[str, Iterable[str]], mpps: Mapping[str, float]) -> dict[str, list[str]]:
    """The slides of a run that are unlike the others: names by code, in the order of names.

    Args:
        notes: codes by slide. mpps: micrometres per level-0 pixel by slide.
    """
    found = defaultdict(list)
    for name, codes in sorted(notes.items()):
        for code in codes:
            found[code].append(name)
    odd = odd_mpps(mpps)
    return {**found, ODD_MPP: odd} if odd else dict(found)


def odd_mpps(mpps: Mapping[str, float]) -> list[str]:
    """Slides whose MPP is none of the usual ones of a run, sorted; none where there are too few slides."""
    values = np.sort(np.array(list(mpps.values()), np.float64))
    if len(values) < ENOUGH_SLIDES:
        return []
    usual = max(2.0, USUAL_SHARE * len(values))

    def sharing(mpp: float) -> int:
        first, last = np.searchsorted(values, [mpp / NEAR_MPP, mpp * NEAR_MPP])
        return int(last - first)

    return sorted(name for name, mpp in mpps.items() if sharing(mpp) < usual)


def _dark(picture: Pixels) -> bool:
    darkest = picture.min(2)
    return quantile(np.bincount(darkest.ravel(), minlength=256), 1 - DARK_SHARE) < DARKEST


def _not_pink(picture: Pixels, glass: npt.NDArray[np.int32] | None) -> bool:
    """Whether there is stain, and hardly any of it is eosin's."""
    lights = [255, 255, 255] if glass is None else glass.tolist()
    tables = [-np.log((np.arange(256) + 1.0) / (light + 1.0)).astype(np.float32) for light in lights]
    red, green, blue = (tables[k][picture[:, :, k]] for k in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    stained = (high > DENSITY) & (high - low > CHROMA) & (low > -CHROMA)
    count = int(stained.sum())
    pink = stained & (red <= RED * green) & (blue <= BLUE * green)
    return count >= ENOUGH and int(pink.sum()) < PINK_SHARE * count
