"""Scores of classifiers, ranks, numbers and risks on few samples: undefined is None or NaN, never a warning.

Those with ``weights`` (R, N) give a figure for each of R samples, in which a row counts so often as its
weight says: bootstraps cost a product of matrices.
"""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from pathtrain.params.tasks import Kind

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def auroc(probabilities: Floats, labels: Ints) -> float | None:
    """Area under the ROC curve; of more than two classes the mean of each against the others.

    Args:
        probabilities: (N, C).
        labels: (N,) class numbers; classes that no sample has are left out.

    Returns:
        0 to 1; None if all samples are of one class.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return None
    wanted = [1] if probabilities.shape[1] == 2 else present.tolist()
    return float(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in wanted]))


def balanced_accuracy(probabilities: Floats, labels: Ints) -> float | None:
    """The mean recall of the classes that samples have; None without samples."""
    if not len(labels):
        return None
    hit = probabilities.argmax(axis=1) == labels
    return float(np.mean([hit[labels == c].mean() for c in np.unique(labels)]))


def rankme(features: npt.NDArray[np.float32]) -> float:
    """RankMe (Garrido et al. 2023): how many directions features use, told without labels.

    exp of the entropy of the singular values' shares, the features as they are (not centred), with the
    paper's 1e-7 added to each share. A sudden fall is a collapse of dimensions.

    Args:
        features: (N, D); the paper takes 25,600 rows, and N should be well above D.

    Returns:
        1 to min(N, D), to within D * 1e-5; 0 if all features are 0.
    """
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    if not values.sum():
        return 0.0
    shares = values / values.sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def quadratic_kappa(truth: Ints, guesses: Ints, classes: int, weights: Floats) -> Floats:
    """Cohen's kappa with quadratic weights, (R,); NaN where truth and guesses are all of one rank.

    Args:
        truth, guesses: (N,) ranks, 0 to ``classes`` - 1.
    """
    cells = np.zeros((len(truth), classes * classes))
    cells[np.arange(len(truth)), truth * classes + guesses] = 1
    seen = (weights @ cells).reshape(-1, classes, classes)
    ranks = np.arange(classes)
    cost = (ranks[:, None] - ranks) ** 2
    total = seen.sum(axis=(1, 2))
    chance = np.einsum("ri,rj,ij->r", seen.sum(axis=2), seen.sum(axis=1), cost)
    return 1 - _ratio((seen * cost).sum(axis=(1, 2)) * total, chance)


def mean_error(truth: Floats, guesses: Floats, weights: Floats) -> Floats:
    """Mean absolute error, (R,)."""
    return _ratio(weights @ np.abs(truth - guesses), weights.sum(axis=1))


def explained(truth: Floats, guesses: Floats, weights: Floats) -> Floats:
    """R2, (R,): 1 less the squared error by that of the mean of the truth; NaN where that is constant."""
    total = weights.sum(axis=1)
    centred = truth - truth.mean()  # against cancellation
    spread = weights @ centred**2 - _ratio((weights @ centred) ** 2, total)
    return 1 - _ratio(weights @ (truth - guesses) ** 2, spread)


def pearson(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Pearson's correlation, (R,); NaN where either is constant."""
    total = weights.sum(axis=1)
    x, y = one - one.mean(), other - other.mean()
    sx, sy = weights @ x, weights @ y
    both = weights @ (x * y) - _ratio(sx * sy, total)
    squares = (weights @ x**2 - _ratio(sx**2, total)) * (weights @ y**2 - _ratio(sy**2, total))
    return np.clip(_ratio(both, np.sqrt(np.maximum(squares, 0))), -1, 1)


def spearman(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Spearman's correlation, (R,), ties with their mean rank; ranks are those of each sample."""
    total = weights.sum(axis=1)
    ranked = []
    for values in (one, other):
        below = (np.sign(values[:, None] - values[None, :]) + 1) / 2
        ranks = weights @ below.T  # (R, N)
        ranked.append(ranks - _ratio((weights * ranks).sum(axis=1), total)[:, None])
    x, y = ranked
    squares = (weights * x**2).sum(axis=1) * (weights * y**2).sum(axis=1)
    return np.clip(_ratio((weights * x * y).sum(axis=1), np.sqrt(squares)), -1, 1)


def comparable(times: Floats, events: Ints) -> npt.NDArray[np.bool_]:
    """(N, N): whether the first is known to come before the second: Harrell's pairs.

    Of equal times an event comes before one that had none by then; two events are no pair.
    """
    earlier = times[:, None] < times[None, :]
    same = (times[:, None] == times[None, :]) & (events[None, :] == 0)
    return np.asarray((events[:, None] == 1) & (earlier | same), dtype=np.bool_)


def concordance(pairs: npt.NDArray[np.bool_], risks: Floats, weights: Floats) -> Floats:
    """Harrell's c-index, (R,): share of pairs of which the earlier has the higher risk, equal risks half.

    Args:
        pairs: (N, N) of ``comparable``.
        risks: (N,), higher is earlier.
    """
    right = pairs * (np.sign(risks[:, None] - risks[None, :]) + 1) / 2
    return _ratio((weights @ right * weights).sum(axis=1), (weights @ pairs * weights).sum(axis=1))


def figures_of(kind: Kind, outputs: Floats, labels: Ints, numbers: Floats | None) -> dict[str, float | None]:
    """What is told of a task's scored slides.

    Args:
        kind: of the task.
        outputs: (N, C) probabilities of classes or ranks; (N, 1) numbers, or log hazards.
        labels: (N,) classes, ranks, or events 0 and 1.
        numbers: (N,) the true numbers, or times.

    Returns:
        ``auroc`` and ``balanced_accuracy``; ``kappa`` (quadratic) and ``mae`` of ranks; ``pearson``,
        ``spearman``, ``r2`` and ``mae``; ``c_index``. None where undefined.
    """
    if kind == "classes":
        return {"auroc": auroc(outputs, labels), "balanced_accuracy": balanced_accuracy(outputs, labels)}
    once = np.ones((1, len(labels)))
    if kind == "ordinal":
        guesses = median_rank(outputs)
        found = {
            "kappa": quadratic_kappa(labels, guesses, outputs.shape[1], once),
            "mae": mean_error(labels.astype(np.float64), guesses.astype(np.float64), once),
        }
    elif kind == "regression":
        assert numbers is not None
        pair = numbers, outputs[:, 0], once
        found = {
            "pearson": pearson(*pair),
            "spearman": spearman(*pair),
            "r2": explained(*pair),
            "mae": mean_error(*pair),
        }
    else:
        assert numbers is not None
        found = {"c_index": concordance(comparable(numbers, labels), outputs[:, 0], once)}
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in found.items()}


def median_rank(probabilities: Floats) -> Ints:
    """(N, C) of ranks -> (N,): how many thresholds a slide is above with more than a half, as CORAL."""
    above = 1 - np.cumsum(probabilities, axis=1)[:, :-1]
    return np.asarray((above > 0.5).sum(axis=1), dtype=np.int64)


def _ratio(above: Floats, below: Floats) -> Floats:
    found = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return np.asarray(found, dtype=np.float64)
