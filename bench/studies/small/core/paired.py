"""Rows of a task whose figure is not one of tile classes: means over seeds, and paired differences.

Whatever is drawn whole (fields, squares of tissue, runs) is a group. A figure is the mean over an encoder's
seeds; intervals are over groups, at the levels of Student's t (pathtrain.evaluate.statistics), and say
nothing of other seeds: for these the smallest and largest seed, and the difference of each, are beside them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pathtrain.evaluate.statistics import Doubles, Figure, figures

# (R, G), how often each group is in each of R samples -> (R,) figures
Statistic = Callable[[Doubles], Doubles]
Row = dict[str, Any]
Verdict = Literal["above", "below", "level"]
WORDS: dict[Verdict, str] = {"above": "above", "below": "below", "level": "not told apart from"}


def rows(
    figure: str,
    own: Mapping[str, Sequence[Statistic]],
    groups: int,
    against: Mapping[str, Sequence[str]],
    seed: int = 0,
) -> list[Row]:
    """A row per encoder.

    Args:
        figure: what it is, for tables.
        own: encoder -> the figure of each of its seeds.
        groups: G.
        against: encoder -> those that it is compared with; names that are not in ``own`` are passed over.
        seed: of the bootstrap.

    Returns:
        Rows as scores.table has them: ``encoder``, ``figure``, ``value``, ``interval``, ``seeds``, and
        ``minus``: other -> ``value``, ``interval``, ``clear``, and ``seeds``, each one's difference to the
        other's mean.
    """
    pairs = [
        (name, other) for name in own for other in against.get(name, ()) if other in own and other != name
    ]

    def every(copies: Doubles) -> dict[tuple[str, str], Doubles]:
        means = {name: np.mean([seen(copies) for seen in seeds], axis=0) for name, seeds in own.items()}
        found = {(name, ""): value for name, value in means.items()}
        return found | {(name, other): means[name] - means[other] for name, other in pairs}

    found = figures(every, groups, seed)
    once = np.ones((1, groups))
    seeds = {name: [float(seen(once)[0]) for seen in several] for name, several in own.items()}
    return [
        {
            "encoder": name,
            "figure": figure,
            **found[name, ""]._asdict(),
            "seeds": seeds[name],
            "minus": {
                other: gap_of(found[name, other], seeds[name], float(np.mean(seeds[other])))
                for one, other in pairs
                if one == name
            },
        }
        for name in own
    ]


def gap_of(figure: Figure, seeds: Sequence[float], level: float) -> dict[str, Any]:
    """A difference; clear where its interval leaves 0 out and all seeds are on one side of the other."""
    apart = [value - level for value in seeds]
    one_side = min(apart) > 0 or max(apart) < 0
    outside = figure.interval is not None and (figure.interval[0] > 0 or figure.interval[1] < 0)
    return {**figure._asdict(), "clear": bool(outside and one_side), "seeds": apart}


def verdict(gap: Mapping[str, Any]) -> Verdict:
    """What a difference says: above or below only where it is clear."""
    if not gap["clear"]:
        return "level"
    return "above" if gap["value"] > 0 else "below"


def summaries(found: Sequence[Row], names: Collection[str]) -> list[str]:
    """What encoders are above, below or not told apart from: a sentence for each figure."""
    lines = []
    for row in (row for row in found if row["encoder"] in names and row["minus"]):
        said: dict[Verdict, list[str]] = {"above": [], "below": [], "level": []}
        for other, gap in row["minus"].items():
            said[verdict(gap)].append(f"{other} ({apart(gap)})")
        parts = [f"{WORDS[key]} {', '.join(others)}" for key, others in said.items() if others]
        lines.append(f"{row['figure']}, {row['encoder']}: {row['value']:.3f}, {'; '.join(parts)}.")
    return lines


def apart(gap: Mapping[str, Any]) -> str:
    """A difference and its interval."""
    return f"{gap['value']:+.3f}{_ends(gap['interval'], '+.3f')}"


def _ends(interval: Sequence[float] | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"


def table(found: Sequence[Row]) -> str:
    """Rows as Markdown; of differences those that are clear are bold."""
    columns = ["figure", "encoder", "mean [95 %]", "seeds", "minus others"]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for row in found:
        seeds = row["seeds"]
        spread = f"{min(seeds):.3f} to {max(seeds):.3f}" if len(seeds) > 1 else ""
        gaps = [
            f"{other} **{apart(gap)}**" if gap["clear"] else f"{other} {apart(gap)}"
            for other, gap in row["minus"].items()
        ]
        cells = [row["figure"], row["encoder"], f"{row['value']:.3f}{_ends(row['interval'], '.3f')}", spread]
        lines.append(f"| {' | '.join([*cells, '<br>'.join(gaps)])} |")
    return "\n".join(lines)
