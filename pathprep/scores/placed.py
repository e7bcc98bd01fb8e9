"""Scores on their slide: sides filled in, and what does not fit refused before anything is drawn."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.scores.columns import Classes
from pathprep.scores.rows import Rows, with_side
from pathprep.storage.printable import printable
from pathprep.words import counted

# All tiles in this part of both sides of a slide: coordinates of another level, as likely as a small piece
CORNER = 1 / 3


@dataclass(frozen=True)
class Placed:
    """The scores of one slide.

    Attributes:
        slide: its safe name.
        width, height: of the slide, level-0 pixels.
        rows: with a side each, in the order of the file.
        notes: what to look at, in sentences.
    """

    slide: str
    width: int
    height: int
    rows: Rows
    notes: list[str] = field(default_factory=list)


def side_in(dataset: Dataset | None, slide: str) -> int:
    """Side of a slide's tiles in a dataset, level-0 pixels; 0 without, and of a slide that is not in it."""
    marker = dataset.markers.get(slide) if dataset is not None else None
    return marker.grid.side if isinstance(marker, SlideMarker) else 0


def place(path: Path, slide: str, rows: Rows, width: int, height: int, side: int = 0) -> Placed:
    """Put scores on a slide.

    Args:
        path: of the scores, for messages. slide: its safe name.
        width, height: of the slide, level-0 pixels.
        side: of tiles for which the file states none, level-0 pixels; 0 if nobody says.

    Raises:
        UsageError: a tile begins outside of the slide, has no side, or comes twice.
    """
    rows = with_side(rows, side)
    called = printable(slide)

    def refuse(wrong: npt.NDArray[np.bool_], what: str, fix: str) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            many = f" ({counted(int(wrong.sum()), 'such row')})" if wrong.sum() > 1 else ""
            raise UsageError(
                f"{path}, row {rows.lines[row]:,}: the tile at {rows.x[row]},{rows.y[row]} of slide {called} "
                f"{what}{many}; {fix}"
            )

    refuse(
        rows.side <= 0,
        "has no side",
        "add a column side (level-0 pixels), give the dataset that the tiles are of (`dataset`), or `side`",
    )
    outside = (rows.x < 0) | (rows.y < 0) | (rows.x >= width) | (rows.y >= height)
    refuse(
        outside,
        f"lies outside of its {width}x{height} level-0 pixels",
        "is it another slide of this name, or do x and y count in other pixels?",
    )
    refuse(
        rows.side > max(width, height),
        f"is larger than the slide ({width}x{height} level-0 pixels)",
        "side is in level-0 pixels",
    )
    keys = np.stack([rows.x, rows.y, rows.side], axis=1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    refuse(
        first[inverse.reshape(-1)] != np.arange(len(rows)),
        "comes a second time",
        "keep one row a tile; scores of several models are columns",
    )
    return Placed(slide, width, height, rows, _notes(rows, width, height, called))


def _notes(rows: Rows, width: int, height: int, called: str) -> list[str]:
    notes = []
    for name, column in rows.columns.items():
        none = column.codes < 0 if isinstance(column, Classes) else np.isnan(column)
        if none.any():
            notes.append(
                f"{called}: {counted(int(none.sum()), 'tile')} without {printable(name)}; not drawn by it"
            )
    right, bottom = int((rows.x + rows.side).max()), int((rows.y + rows.side).max())
    if right < CORNER * width and bottom < CORNER * height:
        notes.append(
            f"{called}: all tiles lie in the first {right}x{bottom} of {width}x{height} pixels; are x and y "
            "of level 0?"
        )
    return notes
