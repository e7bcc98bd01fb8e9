"""What every evaluation needs: neighbours, intervals over groups, and what a result says of its model."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pathtrain.runs.model import LoadedModel

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

BLOCK = 1024  # queries at a time: 1024 x 100,000 similarities are 400 MB
RESAMPLES = 2000  # bootstrap; the interval's ends then move by about 1 % of its width between seeds
LEVEL = 0.95


def neighbours(
    bank: Floats, queries: Floats, k: int, banned: Callable[[slice], Flags]
) -> Iterator[tuple[slice, Floats, Ints]]:
    """The k most similar rows of ``bank`` by cosine: exact, brute force, in blocks of queries.

    Args:
        bank: (N, D).
        queries: (M, D).
        k: at most the number of rows that every query may have.
        banned: given a slice of queries (B), returns (B, N) bool: pairs that do not count.

    Yields:
        Per block: the slice, similarities (B, k) float32, falling, and row numbers (B, k) int64.
    """
    matrix = torch.from_numpy(unit(bank)).T
    points = torch.from_numpy(unit(queries))
    for start in range(0, len(points), BLOCK):
        part = slice(start, min(start + BLOCK, len(points)))
        similarity = points[part] @ matrix
        similarity[torch.from_numpy(banned(part))] = -torch.inf
        best = similarity.topk(k, dim=1)
        yield part, best.values.numpy(), best.indices.numpy()


def unit(features: Floats) -> Floats:
    """Rows scaled to length 1; a row of zeros stays."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, 1e-12), dtype=np.float32)


def interval(statistic: Callable[[Ints], float], groups: int, seed: int) -> list[float]:
    """Percentile bootstrap over groups: tiles of one slide are alike, so whole slides are drawn.

    Args:
        statistic: of a sample of group numbers (with repeats), NaN where it is undefined.
        groups: number of groups.
        seed: of the draws.

    Returns:
        Lower and upper end of the 95 % interval.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(groups, size=groups)) for _ in range(RESAMPLES)]
    tail = (1 - LEVEL) / 2
    return [float(value) for value in np.nanquantile(values, [tail, 1 - tail])]


def describe(model: LoadedModel) -> dict[str, Any]:
    """What a result file says of its model."""
    return {
        "name": model.name,
        "architecture": model.config.name,
        "fingerprint": model.fingerprint,
        "step": model.step,
        "dim": model.dim,
        "target": None if model.target is None else model.target.as_dict(),
    }
