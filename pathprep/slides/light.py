"""The light behind a slide: the colour that its glass has, or would have, at every place.

One colour will not do where an eosin has bled into the mountant, or a lamp is brighter on one side: the
glow beside such tissue is as coloured as pale tissue. So the glass is measured in squares of BLOCK_UM, where
it is in view, and between them it is what the nearest squares have, smoothly.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pathprep.slides.readers.base import Pixels

BLOCK_UM = 256.0
# A square counts if so much of it is glass; what is filled in needs so much in its neighbourhood
ENOUGH, SOME = 0.15, 0.02
# Glass is as calm as the slide's glass mostly is, no darker than so much of it, and its tint differs by so
# many grey levels at most
CALM_SHARE, CALM_MORE, CALM_AT_MOST = 0.6, 1, 6
NEAR, DARKER, TINT = 6, 0.82, 30
FILLED, FEW = 0.8, 0.02  # share of pixels without any unrest; of a picture that is worth looking at
LIKE = 0.02  # of the pixels of a calm piece, so many have the slide's glass's own colour
# Widths of the smoothing, in squares, from which the first that sees enough glass is taken
WIDTHS = (1, 2, 4, 8, 16, 64)
NOISE_MOST = 3.0  # a saturation: what glass has of it by noise alone


class Light(NamedTuple):
    """Glass over a slide.

    Attributes:
        colours: (H, W, 3) float32, 1 to 255, of a grid that covers the whole slide.
        noise: mean saturation, 0 to 255, of the glass once it is white: no channel is without noise.
    """

    colours: npt.NDArray[np.float32]
    noise: float

    @classmethod
    def even(cls, glass: npt.NDArray[np.int32]) -> Self:
        """The same colour (3,) everywhere."""
        return cls(glass.astype(np.float32)[None, None], 0.0)

    def rows(self, part: slice, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """(rows, w, 3) float32: the light at some rows of a picture (h, w) of the slide, bilinear."""
        down, over = (
            (np.arange(first, last) + 0.5) * (self.colours.shape[axis] / shape[axis]) - 0.5
            for axis, (first, last) in enumerate(((part.start, part.stop), (0, shape[1])))
        )
        return _between(_between(self.colours, down, 0), over, 1)


def _between(
    values: npt.NDArray[np.float32], where: npt.NDArray[np.float64], axis: int
) -> npt.NDArray[np.float32]:
    where = where.clip(0, values.shape[axis] - 1)
    low = np.floor(where).astype(np.intp)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    part = (where - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return np.asarray(values.take(low, axis) * (1 - part) + values.take(high, axis) * part)


def light(overview: Pixels, mpp: float, glass: npt.NDArray[np.int32]) -> Light:
    """The light behind an overview (h, w, 3), given the colour (3,) of its glass on the whole."""
    height, width = overview.shape[:2]
    side = max(1, round(BLOCK_UM / mpp))
    down, across = -(-height // side), -(-width // side)
    counts, sums = np.zeros((down, across)), np.zeros((down, across, 3))
    bare = _bare(overview, glass)
    starts = np.arange(0, width, side)
    strips = [slice(top, min(height, top + side)) for top in range(0, height, side)]
    for number, rows in enumerate(strips):
        seen = np.where(bare[rows, :, None], overview[rows], np.uint8(0))
        counts[number] = np.add.reduceat(bare[rows].sum(0), starts)
        sums[number] = np.add.reduceat(seen.sum(0, dtype=np.int64), starts, axis=0)
    found = Light(_filled(counts, sums, side**2, glass), 0.0)
    noise = total = 0.0
    for rows in strips:
        white = whitened(overview[rows], found.rows(rows, (height, width)))[bare[rows]].astype(np.float64)
        if len(white):
            noise += float((255 * (1 - white.min(1) / np.maximum(white.max(1), 1))).sum())
            total += len(white)
    return found._replace(noise=min(NOISE_MOST, noise / total) if total else 1.0)


def whitened(pixels: Pixels, colours: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pixels (..., 3) uint8 as they would be on white glass, 0 to 255 float32."""
    return np.minimum(pixels * (np.float32(255) / colours), np.float32(255))


def _unrest_counts(overview: Pixels, glass: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """(256,): how many of the pixels that have the glass's colour differ so much from their neighbours."""
    counts = np.zeros(256, np.int64)
    for top in range(0, len(overview), 256):
        rows = slice(top, min(len(overview), top + 256))
        near = np.abs(overview[rows].astype(np.int16) - glass).max(2) <= NEAR
        counts += np.bincount(_unrest(overview, rows)[near], minlength=256)
    return counts


def _near_most(overview: Pixels, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(h, w): of some pixels, those near the colour that most of them have; none if they are few."""
    if among.mean() < FEW:
        return np.zeros_like(among)
    colour = np.median(overview[among][:: max(1, int(among.sum()) // 100_000)], axis=0)
    found = np.zeros_like(among)
    for top in range(0, len(overview), 256):
        rows = slice(top, min(len(overview), top + 256))
        found[rows] = among[rows] & (np.abs(overview[rows] - colour).max(2) <= NEAR)
    return found


def _unrest(overview: Pixels, rows: slice) -> Pixels:
    """(rows, w): range of each pixel's three by three, in the channel where it is largest."""
    top, end = max(0, rows.start - 1), min(len(overview), rows.stop + 1)
    part = overview[top:end]
    spread = ndimage.maximum_filter(part, (3, 3, 1)) - ndimage.minimum_filter(part, (3, 3, 1))
    return np.asarray(spread.max(2)[rows.start - top : rows.stop - top])


def _bare(overview: Pixels, glass: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """(h, w): glass: calm, bright, of a tint that glass may have, and going over into the slide's glass
    without an edge, which a flat pale piece of tissue has."""
    counts = _unrest_counts(overview, glass)
    most = (
        int(np.searchsorted(np.cumsum(counts), CALM_SHARE * counts.sum())) + CALM_MORE if counts.any() else 4
    )
    filled = counts[0] > FILLED * counts.sum()  # no scanner's: white where nothing was scanned
    most = max(most, CALM_AT_MOST) if filled else most
    calm, near = np.empty(overview.shape[:2], bool), np.empty(overview.shape[:2], bool)
    for top in range(0, len(overview), 256):
        rows = slice(top, min(len(overview), top + 256))
        pixels = overview[rows]
        apart = pixels.astype(np.int16) - glass.astype(np.int16)
        tint = apart.max(2) - apart.min(2) < TINT
        bright = pixels.min(2) >= DARKER * int(glass.min())
        calm[rows] = (_unrest(overview, rows) <= most) & tint & bright
        near[rows] = np.abs(apart).max(2) <= NEAR
    if filled:  # with glass beside it
        near |= _near_most(overview, calm & ~near)
    labels, number = ndimage.label(calm, np.ones((3, 3), bool))
    whole, like = np.zeros(number + 1, np.int64), np.zeros(number + 1, np.int64)
    for top in range(0, len(overview), 256):
        part = labels[top : top + 256]
        whole += np.bincount(part.ravel(), minlength=number + 1)
        like += np.bincount(part[near[top : top + 256]], minlength=number + 1)
    kept = like > LIKE * whole
    kept[0] = False
    for top in range(0, len(overview), 256):
        calm[top : top + 256] = kept[labels[top : top + 256]]
    return calm


def _filled(
    counts: npt.NDArray[np.float64], sums: npt.NDArray[np.float64], whole: int, glass: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """Colours (H, W, 3) of all squares: those with glass smoothed, the others from around them."""
    weight = np.where(counts > ENOUGH * whole, counts, 0.0)
    weighted = np.where((weight > 0)[:, :, None], sums, 0.0)
    colours, open_ = np.empty(sums.shape), np.ones(counts.shape, bool)
    colours[:] = glass
    for width in WIDTHS:
        around = ndimage.gaussian_filter(weight, width, truncate=3)
        total = ndimage.gaussian_filter(weighted, (width, width, 0), truncate=3)
        take = open_ & (around > SOME * whole)
        colours[take] = total[take] / around[take][:, None]
        open_ &= ~take
    smooth = ndimage.gaussian_filter(colours, (1, 1, 0))
    return np.asarray(np.maximum(smooth, 1.0), np.float32)
