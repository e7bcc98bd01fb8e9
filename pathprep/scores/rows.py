"""Scores by slide, as their file has them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.scores.columns import Classes, Column, Ints
from pathprep.slides.own_names import SlideNames, safe_name
from pathprep.storage.printable import printable


@dataclass(frozen=True)
class Rows:
    """A row per tile, as the file has it.

    Attributes:
        x, y: (N,) level-0 pixels.
        side: (N,) level-0 pixels; 0 where the file does not say.
        columns: scores by name.
        lines: (N,) where each stands in the file, from 1.
    """

    x: Ints
    y: Ints
    side: Ints
    columns: dict[str, Column]
    lines: Ints

    def __len__(self) -> int:
        return len(self.x)

    def at(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Rows":
        """Some of the rows."""
        columns = {
            name: one.at(rows) if isinstance(one, Classes) else one[rows]
            for name, one in self.columns.items()
        }
        return Rows(self.x[rows], self.y[rows], self.side[rows], columns, self.lines[rows])


@dataclass(frozen=True)
class Scores:
    """A file of scores.

    Attributes:
        path: the file.
        slides: rows by slide, as the file calls it; one entry "" if it does not say.
        ranges: lowest and highest of each column of numbers, over all slides: one colour map for all.
        notes: what was left out, in sentences.
    """

    path: Path
    slides: dict[str, Rows]
    ranges: dict[str, tuple[float, float]]
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Names of the scores, in the file's order."""
        return list(next(iter(self.slides.values())).columns)

    def of(self, names: SlideNames) -> dict[str, Rows]:
        """Rows by safe name of the slide, of those slides that the file has; see ``only`` for one.

        Raises:
            UsageError: a name may be one of several, or two names of the file are of one slide.
        """
        found: dict[str, Rows] = {}
        taken: dict[str, str] = {}
        for called, rows in self.slides.items():
            slide = names.find(called, str(self.path)) if called else None
            if slide is None:
                continue
            if slide in taken:
                raise UsageError(
                    f"{self.path}: {printable(taken[slide])} and {printable(called)} are one slide; give it "
                    "one name"
                )
            found[slide], taken[slide] = rows, called
        return found

    @property
    def is_anonymous(self) -> bool:
        """Whether it does not say which slide it is of."""
        return set(self.slides) == {""}

    def only(self, called: str) -> Rows:
        """The rows of one slide by its own name: or all of a file that names none.

        Raises:
            UsageError: the file has others.
        """
        if self.is_anonymous:
            return self.slides[""]
        found = self.of(named([called]))
        if not found:
            raise UsageError(f"{self.path}: no row of slide {printable(called)}; it has {self.has()}")
        return next(iter(found.values()))

    def has(self) -> str:
        """Its slides, for messages."""
        more = f" and {len(self.slides) - 5:,} more" if len(self.slides) > 5 else ""
        return ", ".join(printable(name) for name in list(self.slides)[:5]) + more

    def chosen(self, score: Iterable[str] = ()) -> list[str]:
        """The columns that were asked for, in that order; all if none was.

        Raises:
            UsageError: there is no such column.
        """
        there, wanted = self.columns, list(score)
        for name in wanted:
            if name not in there:
                raise UsageError(
                    f"{self.path}: no score {printable(name)!r} (`score`); it has {', '.join(there)}"
                )
        return wanted or there


def named(slides: Iterable[str]) -> SlideNames:
    """Slides by own name, to be found by what a file of scores calls them."""
    own = {safe_name(name): (name,) for name in slides}
    return SlideNames.of(own, own)


def with_side(rows: Rows, side: int) -> Rows:
    """The same, with a side where the file has none."""
    return replace(rows, side=np.where(rows.side > 0, rows.side, side))
