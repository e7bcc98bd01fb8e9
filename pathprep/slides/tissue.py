"""Where the tissue is, on a small overview.

Method ``stained``: the glass is made white, in its own colour at every place (``light``). A pixel is tissue
where its saturation and that of the three by three around it are above the glass's by ``threshold``, closed
over 72 um, and where the mean over 56 um is by MEAN_SHARE of that. Walls of fat cells are thin: a median,
or each pixel alone, sees glass in fat; a mean alone would see tissue in the glass beside it. Black without
colour is no tissue. Methods ``threshold`` and ``otsu`` are CLAM's (Lu et al. 2021): saturation, median, a
threshold, closing; but under one colour of glass for the slide, made white first.

Of each, components and holes are filtered by area. So that one setting suits a biopsy and a resection, the
overview is chosen by micrometres rather than by pyramid level, and areas are in square micrometres.

Tissue is looked for at 8 um/px on every slide, or what it gives to a slide that is coarser: more finely, it
falls apart into nuclei and lobes, each of them too small. Only its edge is then drawn on a finer overview,
where there is one: at 8 um/px it lies some micrometres outside, as a pixel that tissue touches is tissue.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from pathprep.params.tissue import TissueParams
from pathprep.slides.glass import glass_colour
from pathprep.slides.light import Light, light, whitened
from pathprep.slides.readers.base import Pixels

Mask = npt.NDArray[np.bool_]

OVERVIEW_MPP = 8.0
# Pictures and outlines of a small slide are finer than OVERVIEW_MPP, so that they have some pixels
OVERVIEW_MIN_SIDE = 1024
WHITE = np.full(3, 255, np.int32)
# The share of the threshold that a wider average must reach; grey levels, and their spread, of what is black
MEAN_SHARE = 0.75
BLACK, BLACK_SPREAD = 50, 16
STRIP = 256  # rows of an overview at a time


class Found(NamedTuple):
    """The tissue of a slide, (h, w) bool each.

    Attributes:
        mask: tissue. small: pieces that were dropped for their size. pieces: how many those are.
        glass: (3,) colour of the bare glass; None if there is none in view.
        threshold: saturation above which a pixel is tissue. light: behind the slide; None without glass.
    """

    mask: Mask
    small: Mask
    pieces: int
    glass: npt.NDArray[np.int32] | None
    threshold: int
    light: Light | None = None


def overview_downsample(width: int, height: int, mpp: float) -> float:
    """Level-0 pixels per pixel of the overview of a slide of this size."""
    return max(1.0, min(OVERVIEW_MPP / mpp, max(width, height) / OVERVIEW_MIN_SIDE))


def search_picture(overview: Pixels, width: int, height: int, mpp: float) -> tuple[Pixels, float]:
    """What tissue is looked for on: an overview at OVERVIEW_MPP, or coarser as it is; and its MPP.

    Args:
        overview: (h, w, 3) uint8.
        width, height, mpp: of the slide's level 0.
    """
    if overview_downsample(width, height, mpp) >= OVERVIEW_MPP / mpp:
        return overview, mpp * width / overview.shape[1]
    across, down = (max(1, round(length * mpp / OVERVIEW_MPP)) for length in (width, height))
    small = Image.fromarray(overview).resize((across, down), Image.Resampling.BOX)
    return np.asarray(small), mpp * width / across


def enlarged(mask: Mask, shape: tuple[int, int]) -> Mask:
    """A mask as it is on a picture of another shape (h, w)."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, mask.shape, strict=True))
    return mask if mask.shape == shape else mask[np.ix_(rows, columns)]


def segment(overview: Pixels, mpp: float, params: TissueParams) -> Found:
    """The tissue on an overview.

    Args:
        overview: (h, w, 3) uint8 RGB.
        mpp: micrometres per overview pixel.
        params: settings.
    """
    glass = glass_colour(overview)
    behind = None
    if glass is not None:
        behind = light(overview, mpp, glass) if params.method == "stained" else Light.even(glass)
    saturation = _saturation(overview, behind)
    threshold = _otsu(saturation, params) if params.method == "otsu" else params.level
    if behind is None:
        # A view within tissue: what is stained on average, also where nuclei lie in stroma that is hardly
        # coloured. Around tissue on glass that would be a rim of glass.
        mask = ndimage.uniform_filter(saturation.astype(np.float32), params.median) > threshold
        mask = _closed(mask, params.closed)
    elif params.method == "stained":
        least = behind.noise + threshold
        seen = mean_above(saturation, least, 3) & (saturation > least)
        mask = _closed(seen & ~_black(overview), params.closed)
        mask &= mean_above(saturation, behind.noise + MEAN_SHARE * threshold, params.median)
    else:
        mask = _closed(median_above(saturation, threshold, params.median), params.closed)
    return _sized(mask, mpp, params, Found(mask, mask, 0, glass, threshold, behind))


def of_model(overview: Pixels, mask: Mask, mpp: float, params: TissueParams) -> Found:
    """What a tissue model found, (h, w) bool, with pieces and holes filtered like our own."""
    return _sized(mask, mpp, params, Found(mask, mask, 0, glass_colour(overview), 0))


def _sized(mask: Mask, mpp: float, params: TissueParams, found: Found) -> Found:
    large, pieces = _drop_small(mask, params.smallest(mask.size * mpp**2) / mpp**2)
    holes, _ = _drop_small(~large, params.max_hole / mpp**2, keep_border=True)
    return found._replace(mask=~holes, small=mask & holes, pieces=pieces)


def on(overview: Pixels, found: Found, params: TissueParams) -> Mask:
    """The tissue as it is on an overview (h, w, 3) of its slide, its edge exact to the overview's pixels.

    Where the overview is no finer than what was searched, or no glass is in view, it is as it was found.
    """
    shape = overview.shape[:2]
    drawn = enlarged(found.mask, shape)
    if drawn is found.mask or found.light is None:
        return drawn
    least = found.threshold + round(found.light.noise)
    fine = median_above(_saturation(overview, found.light), least, params.median)
    square = np.ones((3, 3), bool)
    inside = ndimage.binary_erosion(found.mask, square, border_value=1)
    around = ndimage.binary_dilation(found.mask, square)
    return enlarged(inside, shape) | (fine & enlarged(around, shape))


def _otsu(saturation: npt.NDArray[np.uint8], params: TissueParams) -> int:
    from skimage import filters  # takes a third of a second to import

    smooth = filters.rank.median(saturation, np.ones((params.median, params.median), np.uint8))
    flat = smooth.min() == smooth.max()
    return params.level if flat else int(filters.threshold_otsu(smooth))


def _closed(mask: Mask, side: int) -> Mask:
    """Closed by a square; the border counts as going on, so that none is eaten there."""
    if side < 2:
        return mask
    padded = np.pad(mask, side, mode="edge").view(np.uint8)
    for whole in (1, side):  # dilated, then eroded
        for turned in (False, True):
            lines = padded.T if turned else padded
            # an even side is off centre by half a pixel: once this way, once that way
            sums = _window_sums(lines if whole == 1 else lines[:, ::-1], side)
            sums = sums if whole == 1 else sums[:, ::-1]
            padded = (sums >= whole).view(np.uint8)
            padded = padded.T if turned else padded
    return np.asarray(padded[side:-side, side:-side].astype(bool))


def _black(overview: Pixels) -> Mask:
    """What has no light and no colour, and its rim: the frame around the glass, black ink."""
    black = np.empty(overview.shape[:2], bool)
    for rows in _strips(len(overview)):
        high = overview[rows].max(2)
        black[rows] = (high < BLACK) & (high - overview[rows].min(2) <= BLACK_SPREAD)
    return np.asarray(ndimage.binary_dilation(black)) if black.any() else black


def mean_above(values: npt.NDArray[np.uint8], threshold: float, side: int) -> Mask:
    """Where the mean of the square around a pixel, as far as it is in view, is above a threshold."""
    above = np.empty(values.shape, bool)
    counts = [_window_sums(np.ones((1, n), np.uint32), side)[0] for n in values.shape]
    for rows in _strips(len(values)):
        top, end = max(0, rows.start - side), min(len(values), rows.stop + side)
        sums = _window_sums(values[top:end].astype(np.uint32), side)
        sums = _window_sums(sums.T, side).T[rows.start - top : rows.stop - top]
        above[rows] = sums > threshold * counts[0][rows, None] * counts[1]
    return above


def median_above(values: npt.NDArray[np.uint8], threshold: int, side: int) -> Mask:
    """Where the median of the square around a pixel is above a threshold, as skimage's rank.median has it.

    That is, where at least half of the square's pixels are; beyond the border there are none. Counting
    them is several times faster than finding the median.
    """
    kind = np.uint8 if 2 * side**2 < 256 else np.uint32
    counts = [_window_sums(np.ones((1, n), kind), side)[0] for n in values.shape]
    above = _window_sums(_window_sums((values > threshold).astype(kind), side).T, side).T
    return np.asarray(2 * above >= counts[0][:, None] * counts[1])


def _window_sums(values: npt.NDArray[np.unsignedinteger[Any]], side: int) -> npt.NDArray[Any]:
    """Sums of the ``side`` values around each along the last axis; zeros beyond the ends."""
    padded = np.pad(values, ((0, 0), (side // 2, (side - 1) // 2)))
    sums = padded[:, : values.shape[1]].copy()
    for shift in range(1, side):
        sums += padded[:, shift : shift + values.shape[1]]
    return sums


def _saturation(overview: Pixels, behind: Light | None) -> npt.NDArray[np.uint8]:
    """(h, w) HSV saturation, 0 to 255, once the glass is white."""
    saturation = np.empty(overview.shape[:2], np.uint8)
    if behind is None or behind.colours.size == 3:  # one colour: by table
        glass = WHITE if behind is None else behind.colours.ravel().astype(np.int32)
        levels = np.minimum(np.arange(256)[:, None] * 255 // glass, 255).astype(np.uint8)
        for rows in _strips(len(overview)):
            white = [levels[:, k][overview[rows, :, k]] for k in range(3)]
            high = np.maximum(np.maximum(white[0], white[1]), white[2]).astype(np.int32)
            chroma = high - np.minimum(np.minimum(white[0], white[1]), white[2])
            saturation[rows] = (255 * chroma + high // 2) // np.maximum(high, 1)
        return saturation
    for rows in _strips(len(overview)):
        plain = whitened(overview[rows], behind.rows(rows, overview.shape[:2]))
        most = plain.max(2)
        share = 255 * (most - plain.min(2)) / np.maximum(most, 1)
        saturation[rows] = (share + np.float32(0.5)).astype(np.uint8)
    return saturation


def _strips(height: int) -> Iterator[slice]:
    """Rows, some at a time: temporary arrays of a whole overview would take a gigabyte."""
    return (slice(top, min(height, top + STRIP)) for top in range(0, height, STRIP))


def _drop_small(mask: Mask, pixels: float, keep_border: bool = False) -> tuple[Mask, int]:
    """Remove components smaller than ``pixels``; with ``keep_border``, not those that touch the border.

    Returns:
        What is left, and how many were removed.
    """
    labels, count = ndimage.label(mask)
    if not count:
        return mask, 0
    sizes = np.zeros(count + 1, np.int64)
    for rows in _strips(len(mask)):
        sizes += np.bincount(labels[rows].ravel(), minlength=count + 1)
    keep = sizes >= pixels
    if keep_border:
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            keep[edge] = True
    keep[0] = False
    left = np.concatenate([keep[labels[rows]] for rows in _strips(len(mask))])
    return left, count - int(keep.sum())


def fractions(
    mask: Mask, width: int, height: int, columns: int, rows: int, side: int, stride: int
) -> npt.NDArray[np.float64]:
    """Share of every grid cell that lies inside the mask, exact to the mask's pixels.

    Args:
        mask: (h, w) bool over the whole slide.
        width, height: of the slide, level-0 pixels.
        columns, rows: of the grid.
        side, stride: of the cells, level-0 pixels.

    Returns:
        (rows, columns), 0 to 1.
    """
    # The running integral of a piecewise constant picture is linear inside each pixel, so interpolating it
    # at fractional edges is exact.
    left = np.arange(columns) * stride * (mask.shape[1] / width)
    top = np.arange(rows) * stride * (mask.shape[0] / height)
    w, h = side * mask.shape[1] / width, side * mask.shape[0] / height
    across = np.concatenate(
        [_between(mask[part].cumsum(1, dtype=np.int32), left, left + w) for part in _strips(len(mask))]
    )
    inside = _between(across.cumsum(0).T, top, top + h).T
    return np.asarray(np.clip(inside / (w * h), 0.0, 1.0))


def _between(
    sums: npt.NDArray[Any], start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(r, k): what rows (r, n), of which ``sums`` are the running sums, add up to from start to end (k,)."""
    padded = np.pad(sums, ((0, 0), (1, 0)))

    def at(where: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        where = np.minimum(where, sums.shape[1])
        first = np.minimum(where.astype(np.intp), sums.shape[1] - 1)
        below = padded[:, first]
        return np.asarray(below + (where - first) * (padded[:, first + 1] - below))

    return at(end) - at(start)
