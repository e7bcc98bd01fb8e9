"""The figures of log.jsonl by their titles, in the order of pages."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from pathtrain.training import logs, row_keys

# By a probe's kind and figure: those of a probe with a name have it between the two
PROBES = {
    ("knn", "accuracy"): "kNN accuracy",
    ("knn", "balanced"): "kNN balanced accuracy",
    ("knn", "accuracy_colour"): "kNN accuracy: colour alone",
    ("knn", "accuracy_majority"): "kNN accuracy: the commonest class",
    ("collapse", "excess"): "Feature collapse (own share beyond chance; 0 is none, 1 full)",
    ("collapse", "ratio"): "Feature collapse (own slide against chance; 1 is none)",
    ("collapse", "own_share"): "Feature collapse: neighbours from the own slide (share)",
    ("collapse", "chance"): "Feature collapse: chance",
    ("robustness", "index"): "Robustness index (1: neighbours share the class, 0: the centre or scanner)",
    ("robustness", "index_chance"): "Robustness index: chance",
    ("robustness", "index_colour"): "Robustness index: colour alone",
    ("robustness", "balanced"): "Robustness index: class told by the same neighbours (balanced accuracy)",
    ("robustness", "fragile"): "Tiles that are nearer to the centre or scanner than to the class (share)",
    ("rank", "effective"): "Effective rank of features (RankMe)",
    ("rank", "sd"): "SD of features (1 every way, 0 one way)",
}
# What a probe's figure is held against: figures of the same probe, and what a chart calls them
LEVELS = {
    ("knn", "accuracy"): {"accuracy_colour": "colour", "accuracy_majority": "commonest class"},
    ("collapse", "own_share"): {"chance": "chance"},
    ("robustness", "index"): {"index_chance": "chance", "index_colour": "colour"},
}
# Where more, or less, is better
BETTER: dict[str, Callable[[Iterable[float]], float]] = {"loss": min}
BETTER_PROBES: dict[tuple[str, str], Callable[[Iterable[float]], float]] = {
    ("knn", "accuracy"): max,
    ("knn", "balanced"): max,
    ("collapse", "excess"): min,
    ("collapse", "ratio"): min,
    ("collapse", "own_share"): min,
    ("robustness", "index"): max,
    ("robustness", "balanced"): max,
    ("robustness", "fragile"): min,
}
MOST = 1e300  # of a value that is drawn


def title(key: str) -> str:
    """What a page calls a figure: its own key, if nobody has described it."""
    known = row_keys.of(key)
    if known is not None:
        return known.title
    kind, name, figure = _parts(key)
    text = PROBES.get((kind, figure), key)
    return f"{text} [{name}]" if name else text


def ordered(keys: Collection[str]) -> list[str]:
    """Keys as pages show them: of losses, schedules, parts, probes, what has no title, the machine's."""
    shown, probes = list(row_keys.KEYS), list(PROBES)

    def place(key: str) -> tuple[int, int, str]:
        kind, _, figure = _parts(key)
        if key in shown:
            return (4 if key in row_keys.SPEED else 0), shown.index(key), ""
        if row_keys.of(key) is not None:
            return 1, 0, key
        if (kind, figure) in PROBES:
            return 2, probes.index((kind, figure)), key
        return 3, 0, key

    return sorted(keys, key=place)


def charted(keys: Collection[str]) -> list[str]:
    """As ``ordered``, without those that are levels in the chart of another."""
    levels = {level for key in keys for level in _levels(key)}
    return [key for key in ordered(keys) if key not in levels]


def levels(rows: list[dict[str, Any]], key: str) -> list[tuple[str, float]]:
    """What the chart of a figure has as levels: names, and the last values of each."""
    found = {name: points(rows, level)[1] for level, name in _levels(key).items()}
    return [(name, values[-1]) for name, values in found.items() if values]


def _levels(key: str) -> dict[str, str]:
    """Keys of the levels of a figure, and their names."""
    kind, _, figure = _parts(key)
    return {
        f"{key.removesuffix(figure)}{level}": name for level, name in LEVELS.get((kind, figure), {}).items()
    }


def better(key: str) -> Callable[[Iterable[float]], float] | None:
    """max or min, which gives the best of a figure's values; None where neither is better."""
    kind, _, figure = _parts(key)
    return BETTER.get(key) or BETTER_PROBES.get((kind, figure))


def read(run: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a run's log, and how many lines are damaged; one that a kill cut off at the end is none."""
    rows, damaged = logs.read(run, repeated=True)
    return rows, len(damaged)


def points(rows: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of a figure where it was logged and is finite."""
    kept = [row for row in rows if _is_number(row.get(key)) and _is_number(row.get("step"))]
    return [row["step"] for row in kept], [row[key] for row in kept]


def _is_number(value: Any) -> bool:
    # beyond MOST, sums and the steps of axes overflow
    return row_keys.is_number(value) and -MOST < value < MOST


def _parts(key: str) -> tuple[str, str, str]:
    """Kind, name and figure of a probe's key; the name is empty for probes without one."""
    kind, _, rest = key.partition("_")
    figures = [figure for known, figure in PROBES if known == kind]
    for figure in sorted(figures, key=len, reverse=True):
        if rest == figure:
            return kind, "", figure
        if rest.endswith(f"_{figure}"):
            return kind, rest.removesuffix(f"_{figure}"), figure
    return kind, "", rest
