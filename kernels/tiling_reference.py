"""Cutting tiles from a block, with area resampling and quality figures, in plain numpy: the definition.

    stored[i] = sum_j overlap([i side, (i+1) side), [j stored, (j+1) stored)) block[j] / side

on each axis: lengths are counted in units of 1 / stored of a source pixel, so weights are integers, the
sum over both axes is an exact integer, and dividing it by side^2 with rounding half up has one right
answer. This is the box filter with fractional weights at the edges (OpenCV's INTER_AREA), antialiased by
construction.

Quality, of the stored tile:
    saturation  mean HSV saturation, (max - min) / max per pixel, 0 where the pixel is black; 0 to 1
    white       share of pixels with all channels >= WHITE; 0 to 1
    focus       variance of the 4-neighbour Laplacian of luminance over the inner pixels (those with four
                neighbours), grey levels squared; 0 if there are none
    stained     share of pixels whose channels all have an optical density of Macenko's beta or more; 0 to 1
    hsv         share of pixels in Virchow's and Midnight's box of colours (in_hsv_box); 0 to 1
    pen         share of pixels with the colour of a pen's ink (is_pen); 0 to 1
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.kernels.macenko_reference import BETA, IO, optical_density

# An empty field is near 240 on every channel and tissue at the glass limit of Macenko (OD 0.15) is 206:
# 220 lies between the two, OD 0.08.
WHITE = 220
# The brightest grey level that Macenko counts as tissue (step 2): 205
STAINED = int(np.flatnonzero(optical_density(np.arange(256), IO) >= BETA).max())
# ITU-R BT.601 luminance in 256ths: integers, so that sums have one right answer.
LUMINANCE = (77, 150, 29)

FIGURES = 6  # saturation, white, focus, stained, hsv, pen
MAX_SIDE = 8192  # weighted sums of a tile stay below 255 * 2^26: exact in float64 with room for rounding

Bytes = npt.NDArray[np.uint8]


def weights(side: int, stored: int) -> npt.NDArray[np.int64]:
    """(stored, side) overlap of each stored pixel with each source pixel; every row sums to ``side``."""
    i = np.arange(stored)[:, None]
    j = np.arange(side)[None, :]
    overlap = np.minimum((i + 1) * side, (j + 1) * stored) - np.maximum(i * side, j * stored)
    return np.asarray(np.maximum(overlap, 0))


def resample(tile: Bytes, stored: int) -> Bytes:
    """(side, side, 3) -> (stored, stored, 3) by area; equal sizes come back equal."""
    side = len(tile)
    w = weights(side, stored)
    total = np.einsum("iy,yxc,jx->ijc", w, tile.astype(np.int64), w, optimize=True)
    return np.asarray((2 * total + side * side) // (2 * side * side)).astype(np.uint8)


def in_hsv_box(pixels: Bytes) -> npt.NDArray[np.bool_]:
    """Whether H is in [90, 180], S in [8, 255] and V in [103, 255] of each pixel (..., 3).

    OpenCV's 8-bit HSV: V is the largest channel, S is 255 (V - least) / V, H is the hue in halves of a
    degree, each rounded to the nearest integer, hue 360 being 0: so the box is hue 179 to 359 degrees, from
    cyan over blue to pink. In integers, S rounds to 8 or more if 34 (V - least) >= V. From green, H reaches
    90 if 60 (V - blue) <= V - least; from red, downwards, it stays below 180 if 60 (blue - green) > V -
    least. OpenCV itself divides by tables, whose rounding puts 1,809 of the 2^24 colours on the other side.

    Virchow (Vorontsov et al. 2024, arXiv:2309.07778) and Midnight (Karasikov et al. 2025, arXiv:2504.05186)
    keep a tile if 60 % of its pixels are in the box.
    """
    _, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    high = pixels.max(axis=-1).astype(np.int64)
    spread = high - pixels.min(axis=-1)
    hue = (60 * (high - blue) <= spread) | (60 * (blue - green) > spread)
    return np.asarray(hue & (34 * spread >= high) & (high >= 103))


def is_pen(pixels: Bytes) -> npt.NDArray[np.bool_]:
    """Whether each pixel (..., 3) has a colour that inks have and H&E has not: cold, red or black.

    cold: green, turquoise and blue ink, red below green by 25 grey levels and by a quarter of the brightest
    channel; haematoxylin and eosin both absorb green most. red: green and blue at most two fifths of red,
    which is at least 110; eosin and blood keep more of them. black: all channels below 60, and within 20 of
    each other.

    The published rules (deep-histopath's filter_red_pen and so on, which histolab and others took over) are
    lists of corners in RGB, made for overviews: of real tiles at full resolution single corners take up to
    90 % of the pixels for blue pen (LC25000) and 20 % for red (TCGA). These rules are the part of their
    colours that is clear of nuclei and of most blood; so violet ink, and faint strokes of any, are not
    counted. Carbon pigment is, as black.
    """
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    high, low = pixels.max(axis=-1).astype(np.int64), pixels.min(axis=-1)
    cold = (green - red >= 25) & (4 * (green - red) >= high)
    warm = (red >= 110) & (5 * np.maximum(green, blue) <= 2 * red)
    black = (high < 60) & (high - low <= 20)
    return np.asarray(cold | warm | black)


def quality(tile: Bytes) -> npt.NDArray[np.float64]:
    """Saturation, white, focus, stained, hsv, pen of one tile (H, W, 3)."""
    high = tile.max(axis=2).astype(np.float64)
    low = tile.min(axis=2)
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0).mean()
    grey = tile.astype(np.float64) @ np.array(LUMINANCE) / 256
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    focus = laplacian.var() if laplacian.size else 0.0
    shares = [(high <= STAINED).mean(), in_hsv_box(tile).mean(), is_pen(tile).mean()]
    return np.array([saturation, (low >= WHITE).mean(), focus, *shares])


def cut(
    block: Bytes, origins: npt.NDArray[np.int32], side: int, stored: int
) -> tuple[Bytes, npt.NDArray[np.float32]]:
    """Tiles at ``origins`` (T, 2), x then y, of ``side`` source pixels -> (T, stored, stored, 3), (T, 6)."""
    tiles = np.empty((len(origins), stored, stored, 3), np.uint8)
    figures = np.empty((len(origins), FIGURES), np.float32)
    for t, (x, y) in enumerate(origins):
        tiles[t] = resample(block[y : y + side, x : x + side], stored)
        figures[t] = quality(tiles[t])
    return tiles, figures


def check(shape: tuple[int, ...], dtype: Any, origins: npt.NDArray[np.int32], side: int, stored: int) -> None:
    """Refuse what no version of ``cut`` can do.

    Args:
        shape, dtype: of the block.

    Raises:
        ValueError: ``stored`` exceeds ``side`` (pixels are never invented), a tile leaves the block, or an
            array has another shape or type.
    """
    if not 1 <= stored <= side <= MAX_SIDE:
        raise ValueError(f"expected 1 <= stored <= side <= {MAX_SIDE}, got stored {stored}, side {side}")
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"expected a block (H, W, 3) of uint8, got {shape} of {dtype}")
    if origins.dtype.kind != "i" or origins.ndim != 2 or origins.shape[1] != 2:
        raise ValueError(f"expected origins (T, 2) of int32, got {origins.shape} of {origins.dtype}")
    height, width, _ = shape
    inside = (origins >= 0) & (origins <= (width - side, height - side))  # origins + side could overflow
    if not inside.all():
        x, y = origins[~inside.all(axis=1)][0]
        raise ValueError(f"a tile of {side} px at x {x}, y {y} leaves the block of {width} x {height} px")
