"""A slide in a few hundred pixels, its tissue outlined: for a terminal, and for JSON."""

import base64
import io

import numpy as np
from PIL import Image

from pathprep.slides.readers.base import Pixels
from pathprep.slides.tissue import Mask

# Neither stain nor glass, and seen on both
OUTLINE = (0, 140, 60)
# So that the facts of many slides stay a file that can be read
MOST_BYTES = 6000
SIDE = 192


def miniature(overview: Pixels, mask: Mask | None, width: int, height: int) -> Pixels:
    """The overview reduced to (height, width, 3) uint8; glass beside tissue has the outline's colour.

    Args:
        overview: (h, w, 3) uint8. mask: (h, w) bool, tissue; None: not known, nothing is outlined.
    """
    size = (width, height)
    small = np.array(Image.fromarray(overview).resize(size, Image.Resampling.BOX))
    if mask is not None:
        share = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX))
        inside = np.pad(share >= 128, 1)
        beside = inside[:-2, 1:-1] | inside[2:, 1:-1] | inside[1:-1, :-2] | inside[1:-1, 2:]
        small[beside & ~inside[1:-1, 1:-1]] = OUTLINE
    return small


def fitted(overview: Pixels, most_wide: int, most_high: int) -> tuple[int, int]:
    """Width and height of the largest miniature of these proportions that is not larger than the overview."""
    height, width = overview.shape[:2]
    scale = min(most_wide / width, most_high / height, 1.0)
    return max(1, round(width * scale)), max(1, round(height * scale))


def data_uri(overview: Pixels, mask: Mask | None) -> str:
    """A JPEG of at most 8 kB as JSON holds it."""
    side = SIDE
    while True:
        picture = io.BytesIO()
        Image.fromarray(miniature(overview, mask, *fitted(overview, side, side))).save(
            picture, "JPEG", quality=75
        )
        if len(picture.getvalue()) <= MOST_BYTES or side < 16:
            return f"data:image/jpeg;base64,{base64.b64encode(picture.getvalue()).decode()}"
        side = side * 3 // 4
