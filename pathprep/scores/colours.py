"""Colours of scores and classes, told apart by colour-blind readers too.

viridis and cividis rise in lightness from low to high; coolwarm (blue, grey, red) is what CLAM's figures
have. Each is given by 33 colours of matplotlib's map of that name, between which colours are mixed (at most 6
of 255 levels off). Classes have the palette of Okabe and Ito (2008), and hues by the golden angle after it.
"""

import colorsys

import numpy as np
import numpy.typing as npt

from pathprep.params.overlay import ColourMap
from pathprep.scores.columns import Classes, Column

Colours = npt.NDArray[np.uint8]
Map = ColourMap

_ANCHORS: dict[Map, str] = {
    "viridis": (
        "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e21918c"
        "1f978b1f9f8821a68527ad8131b57b3dbc744cc26c5cc8636ece5881d34d95d840aadc32c0df25d5e21aeae51afde725"
    ),
    "cividis": (
        "00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d5a5f6e61656f686a716f70737676767d7c78"
        "8381798b8778928d789a9376a29975aaa073b3a670bbad6dc3b369ccba64d4c15fddc858e6d051efd748f8df3cfee838"
    ),
    "coolwarm": (
        "3b4cc0445acc4e68d85875e16282ea6c8ff1779af782a6fb8db0fe98b9ffa3c2feaec9fcb9d0f9c3d5f4ccd9edd5dbe5dddcdc"
        "e4d9d2ebd3c6f1cdbaf4c5adf7bca1f7b194f7a688f49a7bf18d6fec7f63e57058de614dd55042cb3e38c0282fb40426"
    ),
}
# Okabe and Ito, without black; yellow last, which is the hardest to see on tissue
_CLASSES = ("0072b2", "e69f00", "009e73", "d55e00", "cc79a7", "56b4e9", "f0e442")
_GOLDEN = 0.6180339887498949


def table(name: Map) -> Colours:
    """(256, 3) uint8, from low to high."""
    anchors = np.frombuffer(bytes.fromhex(_ANCHORS[name]), np.uint8).reshape(-1, 3).astype(np.float64)
    at = np.linspace(0, 255, len(anchors))
    mixed = [np.interp(np.arange(256), at, anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(mixed, axis=1)).astype(np.uint8)


def class_colours(count: int) -> Colours:
    """(count, 3) uint8; the first are the same for any count."""
    made = [tuple(bytes.fromhex(one)) for one in _CLASSES[:count]]
    for number in range(len(made), count):
        hue = (0.13 + number * _GOLDEN) % 1
        lightness = (0.35, 0.5, 0.65)[number % 3]
        made.append(tuple(round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.65)))
    return np.asarray(made, np.uint8).reshape(-1, 3)


def ends(low: float, high: float) -> tuple[float, float]:
    """Values at the map's two ends, of a column from ``low`` to ``high``: 0 and 1 if it fills half."""
    if low >= 0 and high <= 1 and high - low >= 0.5:
        return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def painted(values: npt.NDArray[np.float64], colours: Colours, low: float, high: float) -> Colours:
    """(..., 3) uint8; values beyond the ends have the colour of the end. NaN must not be among them."""
    numbers = np.clip((values - low) / (high - low) * 255, 0, 255)
    return colours[np.rint(numbers).astype(np.uint8)]


def tile_colours(column: Column, name: Map, low: float, high: float) -> Colours:
    """(N, 3) uint8; what of a tile without a value is meaningless."""
    if isinstance(column, Classes):
        return class_colours(max(1, len(column.names)))[np.maximum(column.codes, 0)]
    return painted(np.where(np.isnan(column), low, column), table(name), low, high)
