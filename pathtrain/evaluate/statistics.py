"""What every evaluation needs: neighbours, intervals over groups, and what a result says of its model."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm as normal
from scipy.stats import t as student

from pathtrain.runs.model import LoadedModel

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Key = TypeVar("Key", bound=Hashable)

BLOCK = 1024  # queries at a time: 1024 x 100,000 similarities are 400 MB
RESAMPLES = 2000  # bootstrap; the interval's ends then move by about 1 % of its width between seeds
LEVEL = 0.95
FEW = 10  # groups; below, BCa covers less than Student's t
PARTS = 400  # groups, or parts of them, that are left out one at a time
DRAWN_AT_ONCE = 2**21  # copies: 16 MB


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
        with torch.autocast("cpu", enabled=False):  # a probe measures while a run trains in bfloat16
            similarity = points[part] @ matrix
        similarity[torch.from_numpy(banned(part))] = -torch.inf
        best = similarity.topk(k, dim=1)
        yield part, best.values.numpy(), best.indices.numpy()


def unit(features: Floats) -> Floats:
    """Rows scaled to length 1; a row of zeros stays."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, 1e-12), dtype=np.float32)


class Figure(NamedTuple):
    """A figure and its 95 % interval: None where it is undefined, or there is one group only."""

    value: float
    interval: list[float] | None


def figures(
    statistic: Callable[[Doubles], Mapping[Key, Doubles]],
    groups: int,
    seed: int,
    bounds: Mapping[Key, tuple[float, float]] | None = None,
) -> dict[Key, Figure]:
    """Figures with 95 % intervals over groups: tiles of one slide are alike, so whole slides are drawn.

    Figures that are given together are drawn together: the difference of two of them is paired.

    From ``FEW`` groups on the interval is BCa (Efron 1987), read at the levels of Student's t instead of the
    normal's (Hesterberg 2015), which widens it by what a bootstrap of few groups is too narrow. Below, it is
    Student's t with the bootstrap's standard error. bench/studies/interval_study.py has the coverage of
    these and others over 5 to 40 groups.

    Args:
        statistic: of R samples, how often each of the G groups is in it, (R, G), to named figures, (R,) each;
            NaN where one is undefined.
        groups: G.
        seed: of the draws.
        bounds: lowest and highest value of figures that have them.
    """
    found = {name: float(values[0]) for name, values in statistic(np.ones((1, groups))).items()}
    if groups < 2:
        return {name: Figure(value, None) for name, value in found.items()}
    rng = np.random.default_rng(seed)
    rows = max(1, DRAWN_AT_ONCE // groups)
    drawn = _together(
        statistic(_copies(rng, min(rows, RESAMPLES - start), groups)) for start in range(0, RESAMPLES, rows)
    )
    without = _together(map(statistic, _left_out(groups, rng, rows))) if groups >= FEW else {}
    # the t of a sample, and what the SD of few drawn with replacement is too small by
    wide = float(student.ppf((1 + LEVEL) / 2, groups - 1) * np.sqrt(groups / (groups - 1)))
    result = {}
    for name, value in found.items():
        values, ends = drawn[name][np.isfinite(drawn[name])], None
        if np.isfinite(value) and len(values):
            if groups < FEW:
                ends = value + wide * values.std() * np.array([-1, 1])
            else:
                ends = bca(values, value, without[name], wide)
            ends = np.clip(ends, *(bounds or {}).get(name, (None, None))).tolist()
        result[name] = Figure(value, ends)
    return result


def flat(found: Mapping[str, Figure]) -> dict[str, Any]:
    """Figures as results have them: ``name`` and ``name_interval``."""
    return {
        f"{name}{ending}": value
        for name, figure in found.items()
        for ending, value in zip(("", "_interval"), figure, strict=True)
    }


def _copies(rng: np.random.Generator, rows: int, groups: int) -> Doubles:
    """(rows, groups): how often each group was drawn in a sample of as many, with replacement."""
    places = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)


def _left_out(groups: int, rng: np.random.Generator, rows: int) -> Iterator[Doubles]:
    """(P, groups) in blocks of ``rows``: all but one group; of very many, all but one part, of which the
    skewness is the same on average.
    """
    parts = min(groups, PARTS)
    part: Ints = rng.permutation(groups) * parts // groups
    for start in range(0, parts, rows):
        block = np.arange(start, min(start + rows, parts))
        yield np.asarray(block[:, None] != part[None, :], dtype=np.float64)


def _together(blocks: Iterable[Mapping[Key, Doubles]]) -> dict[Key, Doubles]:
    found = list(blocks)
    return {name: np.concatenate([block[name] for block in found]) for name in found[0]}


def bca(drawn: Doubles, value: float, without: Doubles, wide: float) -> Doubles:
    """Ends (2,) of the bias-corrected and accelerated interval (Efron 1987).

    Args:
        drawn: (R,) bootstrap values.
        value: of the sample.
        without: (P,) values without one group each.
        wide: quantile to read at, in SDs: 1.96 is Efron's for 95 %.
    """
    below = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    shift = normal.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    influence = np.nanmean(without) - without[np.isfinite(without)]
    squares = float((influence**2).sum())
    skew = float((influence**3).sum()) / (6 * squares**1.5) if squares else 0.0
    places = shift + wide * np.array([-1, 1])
    # the correction has a pole far outside of what is read: stop before it
    levels = normal.cdf(shift + places / np.maximum(1 - skew * places, 1e-3))
    return np.asarray(np.quantile(drawn, levels))


def mean_interval(values: Sequence[float]) -> list[float] | None:
    """Student's 95 % interval of a mean, as over seeds; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def describe(model: LoadedModel) -> dict[str, Any]:
    """What a result file says of its model."""
    return {
        "name": model.name,
        "architecture": model.config.name,
        "fingerprint": model.fingerprint,
        "step": model.step,
        "dim": model.dim,
        "readout": model.readout,
        "origin": model.encoder,
        "licence": model.licence,
        "target": None if model.target is None else model.target.as_dict(),
    }
