"""What keeps a batch's features apart: KoLeo, a kernel density estimate, and uniformity.

All three take the vectors (n, D) of n images as they leave the backbone, put them on the unit sphere,
z = x / |x|, and are to be minimised. They compute in float32 also under autocast; float64 stays. Each couples
all its vectors, so how many those are belongs to the recipe: ``grouped`` says how many belong together, and
``among_ranks`` takes those of all ranks.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pathtrain.distributed.ranks import Ranks
from pathtrain.losses.precision import wide

Regulariser = Callable[[Tensor], Tensor]
EPS = 1e-8  # DINOv2's, of KoLeo


def koleo(vectors: Tensor) -> Tensor:
    """- mean over i of log |z_i - z_nearest|: Kozachenko and Leonenko's estimate of entropy, negated.

    Sablayrolles et al. 2019, "Spreading vectors for similarity search"; as DINOv2 has it: the nearest is that
    of the largest product, and 1e-8 keeps two equal vectors from an infinite loss.

    Args:
        vectors: (n, D), n >= 2.

    Raises:
        ValueError: fewer than two vectors.
    """
    with _plain(vectors):
        z = _unit(vectors)
        with torch.no_grad():
            nearest = _others(z @ z.T, -2.0).argmax(dim=1)
        distances = functional.pairwise_distance(z, z[nearest], p=2, eps=EPS)
        return -(distances + EPS).log().mean()


def kde(vectors: Tensor, kappa: float) -> Tensor:
    """mean over i of [log sum over j != i of exp(kappa z_i . z_j) - log(n - 1)]: the log of the density.

    With a von Mises-Fisher kernel; Virchow2 (Zimmermann et al. 2024) has it in place of KoLeo. A vector's own
    kernel is left out: with it the loss could not fall below log of its share.

    Args:
        vectors: (n, D), n >= 2.
        kappa: concentration of the kernel, above 0.

    Returns:
        Scalar, -kappa to kappa: kappa where all vectors are equal, 0 where they are orthogonal.

    Raises:
        ValueError: fewer than two vectors.
    """
    with _plain(vectors):
        z = _unit(vectors)
        others = _others(kappa * (z @ z.T), float("-inf"))
        return torch.logsumexp(others, dim=1).mean() - math.log(len(z) - 1)


def uniformity(vectors: Tensor, t: float = 2.0) -> Tensor:
    """log of the mean over all pairs of exp(-t |z_i - z_j|^2).

    Wang and Isola 2020, "Understanding contrastive representation learning through alignment and uniformity
    on the hypersphere", section 4.1.2. Where ``kde`` with kappa = 2 t is a mean of logs, this is the log of
    the mean, and lower by kappa.

    Args:
        vectors: (n, D), n >= 2.
        t: above 0.

    Returns:
        Scalar, -4 t to 0, where all vectors are equal.

    Raises:
        ValueError: fewer than two vectors.
    """
    with _plain(vectors):
        z = _unit(vectors)
        others = _others(2 * t * (z @ z.T - 1), float("-inf"))
        return torch.logsumexp(others.flatten(), dim=0) - math.log(len(z) * (len(z) - 1))


def grouped(fn: Regulariser, vectors: Tensor, groups: int) -> Tensor:
    """The mean of a regulariser over equal groups of vectors, each of neighbours.

    Args:
        vectors: (n, D).
        groups: how many; n is a multiple of it.

    Raises:
        ValueError: it is not.
    """
    if groups < 1 or len(vectors) % groups:
        raise ValueError(f"{len(vectors)} vectors cannot be put in {groups} equal groups")
    return torch.stack([fn(part) for part in vectors.chunk(groups)]).mean()


def among_ranks(fn: Regulariser, vectors: Tensor, ranks: Ranks) -> Tensor:
    """A regulariser of all ranks' vectors; all ranks must call it, with equally many.

    The mean over ranks of the gradients is what one rank with all vectors has: a rank's own vectors carry
    its graph, times the number of ranks, and the others' none.

    Args:
        fn: gets (W n, D) in the order of one rank: the first vector of each rank, then the second ones, as
            ranks take positions in turn.
        vectors: (n, D) of this rank.

    Returns:
        Scalar, the same on all ranks.
    """
    if ranks.world == 1:
        return fn(vectors)
    vectors = wide(vectors)
    found = list(ranks.stacked(vectors))
    found[ranks.rank] = _Times.apply(vectors, float(ranks.world))
    return fn(torch.stack(found, dim=1).flatten(0, 1))


class _Times(torch.autograd.Function):
    """The same values, and so many times the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


def _plain(vectors: Tensor) -> torch.autocast:
    """Products of matrices would be bfloat16 under autocast."""
    return torch.autocast(vectors.device.type, enabled=False)


def _unit(vectors: Tensor) -> Tensor:
    if vectors.dim() != 2 or len(vectors) < 2:
        raise ValueError(f"expected vectors (n, D) of n >= 2 images; got {tuple(vectors.shape)}")
    return functional.normalize(wide(vectors), dim=-1, eps=EPS)


def _others(products: Tensor, own: float) -> Tensor:
    """Products of all pairs (n, n) with ``own`` in place of each vector's with itself."""
    diagonal = torch.eye(len(products), dtype=torch.bool, device=products.device)
    return products.masked_fill(diagonal, own)
