"""The same tiles through several scanners or stains, as PLISM has them: are the copies still nearest?

Each value of one column, or pair of values of two (scanner and stain), is a slide; tiles of one name in two
slides are copies. For each pair of slides, as plismbench (arXiv 2501.16239):

    cosine      of the copies' features, their mean
    top-k       share of tiles whose copy is among the k nearest of all other tiles of both slides, the mean
                of the two directions; k 1, 3, 5, 10

over pairs that differ in the first column alone, in the second alone, in both, and all of them: means, and
medians, of which plismbench's leaderboard is the mean of four (cosine of all, top-10 of the three). Its own
code computes in half precision, and takes the first of each row's neighbours for the tile itself, which
another tile can be where two are alike: here a tile is left out by its number, in float32.

Intervals are over the tiles' names (or groups of them): they hold other places, not other scanners.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pathprep.errors import UsageError
from pathtrain.evaluate.shifts.found import Found
from pathtrain.evaluate.statistics import Floats, Ints, unit
from pathtrain.evaluate.units import Units

TOP = (1, 3, 5, 10)
BLOCK = 1024


@dataclass(frozen=True)
class Copies:
    """Which tiles are the same.

    Attributes:
        columns: names of one or two. slides: (S) their values. members: per slide place -> row.
        groups: names of what intervals are over. owner: place -> its number.
    """

    columns: list[str]
    slides: list[tuple[str, ...]]
    members: Sequence[Mapping[str, int]]
    groups: list[str]
    owner: Mapping[str, int]

    @classmethod
    def of(
        cls,
        source: str,
        columns: list[str],
        values: list[list[str]],
        places: list[str],
        groups: list[str] | None,
    ) -> "Copies":
        """From cells (N) of one or two columns, of the tiles' names, and of groups (None: the names).

        Raises:
            UsageError: a name twice in one slide, or no two slides share two tiles.
        """
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for row, place in enumerate(places):
            slide = tuple(column[row] for column in values)
            if not place or "" in slide:
                continue
            if found.setdefault(slide, {}).setdefault(place, row) != row:
                raise UsageError(
                    f"{source}: the tile {place} is twice at {' '.join(slide)}; a tile has one copy at each "
                    f"value of {' and '.join(columns)}: name another column, or both of scanner and stain"
                )
        slides = sorted(found)
        members = [found[slide] for slide in slides]
        if not any(len(one.keys() & two.keys()) >= 2 for one, two in combinations(members, 2)):
            raise UsageError(
                f"{source}: no two values of {' and '.join(columns)} share two tiles; does `same` name "
                f"the column "
                "that says which tiles are copies?"
            )
        owner: dict[str, str] = {}
        for row, place in enumerate(places):
            owner.setdefault(place, place if groups is None else groups[row])
        names = sorted(set(owner.values()))
        numbers = {name: number for number, name in enumerate(names)}
        return cls(columns, slides, members, names, {place: numbers[name] for place, name in owner.items()})

    def kind(self, one: int, two: int) -> str:
        """In what two slides differ: a column's name, or ``both``."""
        differ = [
            name
            for name, a, b in zip(self.columns, self.slides[one], self.slides[two], strict=True)
            if a != b
        ]
        return differ[0] if len(differ) == 1 else "both"

    def about(self) -> dict[str, object]:
        """What results say of it."""
        return {
            "columns": self.columns,
            "slides": [" ".join(slide) for slide in self.slides],
            "tiles": len(self.owner),
        }


def retrieved(features: Floats, copies: Copies) -> Found:
    """Cosine and retrieval of one kind of features."""
    kinds = [*copies.columns, "both", "all"] if len(copies.columns) == 2 else ["all"]
    keys = ["cosine", *(f"top{k}" for k in TOP)]
    sums = {(key, kind): np.zeros(len(copies.groups)) for key in keys for kind in kinds}
    counts = {kind: np.zeros(len(copies.groups)) for kind in kinds}
    pairs: dict[tuple[str, str], list[float]] = {pair: [] for pair in sums}
    points = unit(features)
    for one, two in combinations(range(len(copies.slides)), 2):
        places = sorted(copies.members[one].keys() & copies.members[two].keys())
        if len(places) < 2:
            continue
        rows = [np.array([copies.members[side][place] for place in places]) for side in (one, two)]
        owner = np.array([copies.owner[place] for place in places])
        found = pair(points[rows[0]], points[rows[1]])
        for kind in {"all", copies.kind(one, two)} & set(kinds):
            np.add.at(counts[kind], owner, 1)
            for key in keys:
                np.add.at(sums[key, kind], owner, found[key])
                pairs[key, kind].append(float(found[key].mean()))
    units, figures = {}, dict[str, float | None]()
    for (key, kind), total in sums.items():
        if pairs[key, kind]:
            units[f"{key}_{kind}"] = Units(tuple(copies.groups), total[:, None], counts[kind][:, None])
            figures[f"{key}_{kind}_median"] = float(np.median(pairs[key, kind]))
    wanted = ["cosine_all", *(f"top10_{kind}" for kind in kinds[:-1])]
    if len(wanted) == 4 and all(f"{key}_median" in figures for key in wanted):
        figures["leaderboard"] = float(np.mean([figures[f"{key}_median"] or 0.0 for key in wanted]))
    return Found(units, figures, {"pairs": len(pairs["cosine", "all"])})


def pair(one: Floats, two: Floats) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"]:
    """Of each of n tiles in two slides: cosine of its copies, and by k the mean of the two retrievals.

    Args:
        one, two: (n, D), of length 1; row i of both is the same tile.
    """
    n, both = len(one), np.concatenate([one, two])
    ranks = np.empty(2 * n, dtype=np.int64)
    other: Ints = np.r_[np.arange(n, 2 * n), np.arange(n)]
    for start in range(0, 2 * n, BLOCK):
        part = np.arange(start, min(start + BLOCK, 2 * n))
        similarity = both[part] @ both.T
        own = similarity[np.arange(len(part)), other[part]]
        similarity[np.arange(len(part)), part] = -np.inf
        ranks[part] = (similarity > own[:, None]).sum(axis=1)  # those that are nearer than the copy
    found = {"cosine": (one.astype(np.float64) * two).sum(axis=1)}
    for k in TOP:
        hit = (ranks < k).astype(np.float64)
        found[f"top{k}"] = (hit[:n] + hit[n:]) / 2
    return found
