"""Objects: found in a map of classes, and compared with the true ones.

The decoder is semantic: it tells classes, not objects. These are made of its classes by a watershed of the
distance to the background (Beucher and Lantuejoul 1979; skimage.segmentation.watershed), from its peaks; each
has the class of most of its pixels. Networks that are trained to part touching nuclei do better.

    bPQ, mPQ   panoptic quality (Kirillov et al. 2019) as PanNuke's authors compute it (Gamper et al. 2020):
               of an image, DQ x SQ at IoU above .5, of all objects, or the mean over the classes that it
               holds; then the mean over the images of a tissue, then over tissues
    AJI        aggregated Jaccard index (Kumar et al. 2017) of an image, as HoVer-Net's authors compute it
    F1         of detection, centres within 12 px, by HoVer-Net's assignment; of a class by its formula, where
               a pair of other classes counts twice (Graham et al. 2019). All images' objects together
    F1 at IoU  the same with pairs of IoU above .5
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from pathtrain.data.segmented.truth import IGNORED, Classes, Ints
from pathtrain.params.segmentation import ObjectParams

Doubles = npt.NDArray[np.float64]
SMOOTHED = 1.0  # SD in pixels of the smoothing of distances: without it a rough edge has many peaks
LEAST_IOU = 0.5
PER_PAIR = 1e-6  # HoVer-Net's and PanNuke's code divide by pairs and this


@dataclass(frozen=True)
class Objects:
    """Objects of an image.

    Attributes:
        map: (H, W) int32, numbers 1 to N. classes: (N,) class of each.
    """

    map: Ints
    classes: npt.NDArray[np.int64]

    def centres(self) -> Doubles:
        """(N, 2) row and column."""
        if not len(self.classes):
            return np.zeros((0, 2))
        return np.array(ndimage.center_of_mass(self.map > 0, self.map, np.arange(1, len(self.classes) + 1)))

    def of(self, number: int) -> Ints:
        """The map of those of a class."""
        keep = np.concatenate([[False], self.classes == number])
        return np.where(keep[self.map], self.map, 0)


def found(classes: Classes, params: ObjectParams) -> Objects:
    """Objects of a map of classes (H, W); see the module's text."""
    foreground = classes > 0
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), SMOOTHED)
    pieces, _ = ndimage.label(foreground)
    peaks = peak_local_max(distance, min_distance=params.distance, labels=pieces, exclude_border=False)
    seeds = np.zeros(classes.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    numbers = watershed(-distance, seeds, mask=foreground).astype(np.int32)
    return classed(numbers, classes, params.smallest)


def classed(numbers: Ints, classes: Classes, smallest: int = 1) -> Objects:
    """Objects by their numbers, each with the class of most of its pixels; those to be ignored left out."""
    count = int(numbers.max()) + 1
    if count < 2:
        return Objects(np.zeros_like(numbers), np.zeros(0, np.int64))
    _, compact = np.unique(numbers, return_inverse=True)
    compact = compact.reshape(numbers.shape) + (0 if (numbers == 0).any() else 1)
    votes = np.zeros((int(compact.max()) + 1, 256), np.int64)
    np.add.at(votes, (compact.ravel(), classes.ravel()), 1)
    pixels = votes.sum(axis=1)
    votes[:, 0] = 0  # an object with pixels of no class has the class of the others
    of = votes.argmax(axis=1)
    keep = (pixels >= smallest) & (of > 0) & (of != IGNORED)
    keep[0] = False
    renumbered = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return Objects(renumbered[compact], of[keep])


@dataclass(frozen=True)
class Overlaps:
    """Pairs of true and found objects that share pixels.

    Attributes:
        true, guess: (K,) numbers. shared, union: (K,) pixels. true_sizes, guess_sizes: of all, pixels.
    """

    true: npt.NDArray[np.int64]
    guess: npt.NDArray[np.int64]
    shared: Doubles
    union: Doubles
    true_sizes: Doubles
    guess_sizes: Doubles


def overlaps(true: Ints, guess: Ints) -> Overlaps:
    """Of two maps (H, W), whose numbers may have gaps."""
    names = [np.unique(each[each > 0]) for each in (true, guess)]
    both = (true > 0) & (guess > 0)
    first, second = (
        np.searchsorted(name, each[both]) for name, each in zip(names, (true, guess), strict=True)
    )
    codes, shared = np.unique(first * max(len(names[1]), 1) + second, return_counts=True)
    rows, columns = np.divmod(codes, max(len(names[1]), 1))
    sizes = [
        np.bincount(np.searchsorted(name, each[each > 0]), minlength=len(name)).astype(np.float64)
        for name, each in zip(names, (true, guess), strict=True)
    ]
    union = sizes[0][rows] + sizes[1][columns] - shared
    return Overlaps(rows, columns, shared.astype(np.float64), union, *sizes)


def quality(pairs: Overlaps) -> tuple[float, float, float, int]:
    """DQ, SQ, PQ and the number of pairs of IoU above .5; NaN where there is no true object."""
    iou = pairs.shared / pairs.union
    met = iou[iou > LEAST_IOU]  # each object is in one such pair at most
    true, guess = len(pairs.true_sizes), len(pairs.guess_sizes)
    if not true:
        return float("nan"), float("nan"), float("nan"), 0
    dq = 2 * len(met) / (true + guess)
    sq = float(met.sum() / (len(met) + PER_PAIR))
    return dq, sq, dq * sq, len(met)


def aggregated_jaccard(pairs: Overlaps) -> float:
    """AJI; NaN where there is no true object."""
    if not len(pairs.true_sizes):
        return float("nan")
    iou = pairs.shared / (pairs.union + PER_PAIR)
    best = np.lexsort((pairs.guess, -iou, pairs.true))  # of each true object the found one of highest IoU
    first = best[np.concatenate([[True], np.diff(pairs.true[best]) > 0])] if len(best) else best
    left_true = np.delete(pairs.true_sizes, pairs.true[first]).sum()
    left_guess = np.delete(pairs.guess_sizes, np.unique(pairs.guess[first])).sum()
    return float(pairs.shared[first].sum() / (pairs.union[first].sum() + left_true + left_guess))


def paired(
    true: Doubles, guess: Doubles, radius: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of centres (N, 2) and (M, 2) that are one object: HoVer-Net's assignment of least total distance,
    of which those within the radius count.
    """
    if not len(true) or not len(guess):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    apart = cdist(true, guess)
    rows, columns = linear_sum_assignment(apart)
    near = apart[rows, columns] <= radius
    return rows[near], columns[near]


def compare(
    true: Objects, guess: Objects, classes: int, params: ObjectParams
) -> dict[str, tuple[Doubles, Doubles]]:
    """Sums and counts of an image, of each figure: (1,) or (C - 1,) each; see units.Units.

    Args:
        classes: C, with the background.
    """
    every = overlaps(true.map, guess.map)
    dq, sq, pq, met = quality(every)
    each = np.array([quality(overlaps(true.of(c), guess.of(c)))[2] for c in range(1, classes)])
    mean = float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")
    sizes = len(true.classes) + len(guess.classes)
    rows, columns = paired(true.centres(), guess.centres(), params.radius)
    twice, counts = _by_class(true.classes, guess.classes, rows, columns, classes)
    return {
        "pq": _one(mean),
        "bpq": _one(pq),
        "dq": _one(dq),
        "sq": _one(sq),
        "aji": _one(aggregated_jaccard(every)),
        "f1": (np.array([2.0 * len(rows)]), np.array([float(sizes)])),
        "f1_iou": (np.array([2.0 * met]), np.array([float(sizes)])),
        "pq_class": (np.nan_to_num(each), np.isfinite(each).astype(np.float64)),
        "f1_class": (twice, counts),
    }


def _one(value: float) -> tuple[Doubles, Doubles]:
    """A value of the image, or none."""
    known = np.isfinite(value)
    return np.array([value if known else 0.0]), np.array([float(known)])


def _by_class(
    true: npt.NDArray[np.int64],
    guess: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    classes: int,
) -> tuple[Doubles, Doubles]:
    """Of HoVer-Net's F1 of each class: 2 TP, and 2 TP + 2 (wrong class) + (not met)."""
    twice, counts = np.zeros(classes - 1), np.zeros(classes - 1)
    lost, extra = np.delete(true, rows), np.delete(guess, columns)
    for place, number in enumerate(range(1, classes)):
        of_true, of_guess = true[rows] == number, guess[columns] == number
        twice[place] = 2 * (of_true & of_guess).sum()
        wrong = (of_true != of_guess).sum()
        counts[place] = twice[place] + 2 * wrong + (lost == number).sum() + (extra == number).sum()
    return twice, counts
