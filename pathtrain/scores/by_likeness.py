"""How alike each tile is to a chosen one: the cosine of their features."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.scores.write import check_name
from pathtrain.features.curate import unit
from pathtrain.scores import source


@dataclass(frozen=True)
class Similar:
    """What was written.

    Attributes:
        out: the file. tiles, slides: in it. tile: slide, x and y of the chosen one.
    """

    out: Path
    tiles: int
    slides: int
    tile: tuple[str, int, int]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "out": str(self.out)}


def similar(features: str | Path, slide: str, x: int, y: int, out: str | Path = "scores.parquet") -> Similar:
    """Compare every tile with the one that lies over a place.

    Args:
        features: a folder of slides' features, as ``embed`` writes them.
        slide: its name. x, y: level-0 pixels, anywhere in the tile.
        out: Parquet or CSV; column ``similarity``, -1 to 1.

    Raises:
        UsageError: no such slide, or none of its tiles lies there.
    """
    target = Path(out)
    check_name(target)
    slides = source.slides_of(features)
    name = slides.names.find(slide)
    if name is None:
        raise UsageError(f"{features}: no slide {slide}; it has {next(iter(slides.counts))}, for one")
    places = slides.places(name)
    if places is None:
        raise UsageError(f"{slides.paths[name]}: does not say where its tiles lie")
    offset = np.array([x, y]) - places.coords
    over = np.flatnonzero(((offset >= 0) & (offset < places.side)).all(axis=1))
    if not len(over):
        raise UsageError(f"{slides.paths[name]}: no tile lies over {x},{y} (level-0 pixels)")
    # of several, the one whose middle is nearest
    middle = np.abs(offset[over] - places.side / 2).sum(axis=1)
    chosen = over[int(middle.argmin())]
    vector = unit(slides.read(name)[chosen : chosen + 1])[0]
    columns = {
        each: {"similarity": (unit(slides.read(each)) @ vector).astype(np.float64)} for each in slides.counts
    }
    tiles = source.write(slides, target, columns)
    at = places.coords[chosen].tolist()
    return Similar(target, tiles, len(columns), (name, at[0], at[1]))
