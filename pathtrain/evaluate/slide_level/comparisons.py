"""Whether two models differ: DeLong's test of two AUROCs, or a paired bootstrap over patients; and Holm.

DeLong, DeLong and Clarke-Pearson 1988: an AUROC is a mean over positives and a mean over negatives, so that
the variance of a difference is that of the differences of these components. Of several seeds the components
are means over them, of folds the AUROC is the mean of the folds', whose rows are apart. It takes rows as
independent: where a patient has several of them, and for all other figures, the bootstrap answers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm as normal

from pathtrain.evaluate.slide_level.measures import Fold

Floats = npt.NDArray[np.float64]


def delong(one: Sequence[Fold], other: Sequence[Fold]) -> float | None:
    """Two-sided p of the difference of two models' AUROC on the same folds.

    Returns:
        None where the test is not for it: more than two classes, several rows of a patient, or fewer than
        two rows of a class in a fold. 1 if the two say the same.
    """
    difference, variance = 0.0, 0.0
    for mine, its in zip(one, other, strict=True):
        if len(mine.pairs) != 1 or len(np.unique(mine.patient)) < len(mine.patient):
            return None
        (positive, negative, ahead), (_, _, against) = mine.pairs[0], its.pairs[0]
        if min(len(positive), len(negative)) < 2:
            return None
        gap = ahead - against
        difference += float(gap.mean())
        variance += float(
            gap.mean(axis=1).var(ddof=1) / len(positive) + gap.mean(axis=0).var(ddof=1) / len(negative)
        )
    if variance == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * normal.sf(abs(difference) / np.sqrt(variance)))


def bootstrap_p(drawn: Floats) -> float:
    """Two-sided p that a difference is 0, from its bootstrap (R,): twice the smaller share beyond 0.

    One more draw on either side, so that it is never 0.
    """
    values = drawn[np.isfinite(drawn)]
    below, above = (values <= 0).sum() + 1, (values >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / (len(values) + 1)))


def holm(values: Mapping[object, float]) -> dict[object, float]:
    """Holm's corrected p, by the same keys: the chance of any false finding among all of them stays."""
    order = sorted(values, key=lambda key: values[key])
    found: dict[object, float] = {}
    highest = 0.0
    for place, key in enumerate(order):
        highest = max(highest, min(1.0, values[key] * (len(order) - place)))
        found[key] = highest
    return found
