"""Which interval holds the truth as often as it says, over few groups? Coverage of four kinds, by simulation.

    python bench/studies/interval_study.py [--samples 1000] [--out FILE.md]

    percentile   the bootstrap's 2.5 % and 97.5 %
    BCa          bias-corrected and accelerated (Efron 1987)
    t            Student's t with the bootstrap's standard error
    figures      pathtrain.evaluate.statistics.figures: t below 10 groups, then BCa at the levels of the t

Each sample has 5, 10, 20 or 40 groups. ``normal``: one normal value a group. ``accuracy``: 20 to 200 tiles a
group, whose accuracy is beta with mean .85, pooled. ``high``: the same with mean .97. ``own share``: beta
with mean 1/3. ``lead``: two accuracies of 100 tiles a group, one ahead by .05 on average; their difference.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from pathtrain.evaluate.statistics import RESAMPLES, bca, figures

Doubles = npt.NDArray[np.float64]
# Per group what is counted and what it is divided by, and the truth
Drawn = tuple[Doubles, Doubles, float]

GROUPS = (5, 10, 20, 40)
KINDS = ("percentile", "BCa", "t", "figures")


def tiles(rng: np.random.Generator, groups: int, mean: float) -> Drawn:
    """Right tiles and tiles of groups that differ in accuracy."""
    counts = rng.integers(20, 200, groups)
    share = rng.beta(10 * mean, 10 * (1 - mean), groups)
    return rng.binomial(counts, share).astype(np.float64), counts.astype(np.float64), mean


def lead(rng: np.random.Generator, groups: int) -> Drawn:
    """Difference of two accuracies on the same tiles' groups."""
    base = rng.beta(6, 3, groups) * 0.8  # so that base + gain stays in 0 to 1
    gain = np.clip(rng.normal(0.05, 0.06, groups), -0.1, 0.2)
    ahead, behind = rng.binomial(100, np.clip(base + gain, 0, 1)), rng.binomial(100, base)
    return (ahead - behind).astype(np.float64), np.full(groups, 100.0), np.nan


CASES: dict[str, Callable[[np.random.Generator, int], Drawn]] = {
    "normal": lambda rng, groups: (rng.normal(size=groups), np.ones(groups), 0.0),
    "accuracy": lambda rng, groups: tiles(rng, groups, 0.85),
    "high": lambda rng, groups: tiles(rng, groups, 0.97),
    "own share": lambda rng, groups: (rng.beta(2, 4, groups), np.ones(groups), 1 / 3),
    "lead": lead,
}


def ends(part: Doubles, whole: Doubles, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """All four intervals of one sample's ratio."""
    groups = len(part)
    copies = rng.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
    drawn, value = copies @ part / (copies @ whole), part.sum() / whole.sum()
    without = (part.sum() - part) / (whole.sum() - whole)
    half = t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1)) * drawn.std()
    ours = figures(lambda many: {"x": many @ part / (many @ whole)}, groups, int(rng.integers(2**31)))["x"]
    found = [np.quantile(drawn, [0.025, 0.975]), bca(drawn, value, without, float(norm.ppf(0.975)))]
    found += [(value - half, value + half), ours.interval or (value, value)]
    return {kind: (float(low), float(high)) for kind, (low, high) in zip(KINDS, found, strict=True)}


def study(samples: int, seed: int = 0) -> list[str]:
    """A row of a table per case and number of groups: how often each kind holds the truth."""
    lines = [f"| case | groups | {' | '.join(KINDS)} |", "| --- | ---: |" + " ---: |" * len(KINDS)]
    for case, draw in CASES.items():
        for groups in GROUPS:
            rng = np.random.default_rng([seed, groups, list(CASES).index(case)])
            held = dict.fromkeys(KINDS, 0)
            for _ in range(samples):
                part, whole, truth = draw(rng, groups)
                if np.isnan(truth):
                    many = draw(np.random.default_rng(seed), 1_000_000)
                    truth = float(many[0].sum() / many[1].sum())
                    CASES[case] = draw = _known(draw, truth)
                for kind, (low, high) in ends(part, whole, rng).items():
                    held[kind] += low <= truth <= high
            cells = " | ".join(f"{held[kind] / samples:.3f}" for kind in KINDS)
            lines.append(f"| {case} | {groups} | {cells} |")
            print(lines[-1], flush=True)
    return lines


def _known(
    draw: Callable[[np.random.Generator, int], Drawn], truth: float
) -> Callable[[np.random.Generator, int], Drawn]:
    return lambda rng, groups: (*draw(rng, groups)[:2], truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["# Coverage of 95 % intervals", "", *study(options.samples)]
    error = np.sqrt(0.95 * 0.05 / options.samples)
    lines += ["", f"{options.samples} samples each: the standard error of .95 is {error:.3f}."]
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
