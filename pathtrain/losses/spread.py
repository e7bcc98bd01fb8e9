"""How widely a teacher's outputs and features are spread over tiles: what a collapse takes away.

All of it follows from means over tiles, so that parts of a batch, ranks and steps can be averaged first:

    outputs         (K,)    mean over views and tiles of the teacher's probabilities q
    feature_mean    (D,)    mean of z = f / |f|, of the teacher's features f of its views
    feature_moment  (D, D)  mean of z z^T

Features in float64: a moment in float32 has too few digits for its smaller singular values.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

MOMENT, RANK = "feature_moment", "feature_rank"


@torch.no_grad()
def moments(features: Tensor) -> dict[str, Tensor]:
    """``feature_mean`` (D,) and ``feature_moment`` (D, D) of features (N, D), float64."""
    z = functional.normalize(features.double(), dim=-1)
    return {"feature_mean": z.mean(dim=0), MOMENT: z.T @ z / len(z)}


@torch.no_grad()
def deviation(means: Mapping[str, Tensor]) -> Tensor:
    """The standard deviation of z over tiles and views, the mean over its D numbers, times sqrt(D).

    Chen and He 2021, "Exploring simple siamese representation learning", section 4.1.

    Returns:
        0 where all are the same, 1 where they lie evenly on the sphere.
    """
    mean, square = means["feature_mean"], means[MOMENT].diagonal()
    sd: Tensor = (square - mean.square()).clamp(min=0).sqrt().mean() * len(mean) ** 0.5
    return sd


@torch.no_grad()
def figures(means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scalars of the means of a whole batch, float64.

    Returns:
        ``output_entropy``: of the mean output, in nats: 0 where all tiles have one output, log K where the
        outputs are used alike. ``outputs_used``: its exponential, how many outputs that is, 1 to K; a batch
        of N tiles can show no more than it has views. ``feature_sd``: see deviation.
    """
    entropy = torch.special.entr(means["outputs"].double()).sum()
    return {"output_entropy": entropy, "outputs_used": entropy.exp(), "feature_sd": deviation(means)}


@torch.no_grad()
def effective_rank(moment: Tensor) -> float:
    """exp of the entropy of the singular values of all z, divided by their sum: 1 to D.

    Roy and Vetterli 2007, "The effective rank"; of features as RankMe (Garrido et al. 2023), which does not
    centre them either: features that are all the same have rank 1.

    Args:
        moment: (D, D), mean of z z^T; its eigenvalues are the squares of the singular values over N.
    """
    values = torch.linalg.eigvalsh(moment.double()).clamp(min=0).sqrt()
    return float(torch.special.entr(values / values.sum()).sum().exp())
