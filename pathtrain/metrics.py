"""Scores of classifiers on few samples: undefined is None, never a warning."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

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
