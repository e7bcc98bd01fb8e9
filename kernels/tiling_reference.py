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
"""

import numpy as np
import numpy.typing as npt

# An empty field is near 240 on every channel and tissue at the glass limit of Macenko (OD 0.15) is 206:
# 220 lies between the two, OD 0.08.
WHITE = 220
# ITU-R BT.601 luminance in 256ths: integers, so that sums have one right answer.
LUMINANCE = (77, 150, 29)

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


def quality(tile: Bytes) -> npt.NDArray[np.float64]:
    """Saturation, white, focus of one tile (H, W, 3)."""
    high = tile.max(axis=2).astype(np.float64)
    low = tile.min(axis=2)
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0).mean()
    grey = tile.astype(np.float64) @ np.array(LUMINANCE) / 256
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    focus = laplacian.var() if laplacian.size else 0.0
    return np.array([saturation, (low >= WHITE).mean(), focus])


def cut(
    block: Bytes, origins: npt.NDArray[np.int32], side: int, stored: int
) -> tuple[Bytes, npt.NDArray[np.float32]]:
    """Tiles at ``origins`` (T, 2), x then y, of ``side`` source pixels -> (T, stored, stored, 3), (T, 3)."""
    tiles = np.empty((len(origins), stored, stored, 3), np.uint8)
    figures = np.empty((len(origins), 3), np.float32)
    for t, (x, y) in enumerate(origins):
        tiles[t] = resample(block[y : y + side, x : x + side], stored)
        figures[t] = quality(tiles[t])
    return tiles, figures
