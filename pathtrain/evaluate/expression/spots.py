"""What both layouts of spatial transcriptomics become: spots with a tile and the expression of genes.

A tile is what HEST-Benchmark cuts around each spot: 112 um, 224 px at 0.5 MPP.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathtrain.data.whole_tiles import Tiles
from pathtrain.evaluate.statistics import Doubles, Ints
from pathtrain.images import Pixels
from pathtrain.stain.normaliser import normaliser
from pathtrain.stain.target import ModelTarget

SIDE, MPP = 224, 0.5
TILE_UM = SIDE * MPP

Texts = npt.NDArray[np.str_]


class Section(ABC):
    """A section of tissue with N spots.

    Attributes:
        name: of the section.
        patient: whose it is; "" where that is not known.
        source: the file that the tiles are of, for messages.
        spots: (N) their names.
        places: (N, 2) float64, x and y of their centres, in pixels of the picture.
        um: micrometres that a pixel of ``places`` covers; None where that is not known.
        left_out: how many spots are left out, by reason.
    """

    name: str
    patient: str
    source: Path
    spots: list[str]
    places: Doubles
    um: float | None
    left_out: dict[str, int]

    @abstractmethod
    def tile(self, spot: int) -> Pixels:
        """(224, 224, 3) uint8 around a spot; from one thread, cheapest in their order.

        Raises:
            DatasetError: it cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Give memory back; ``tile`` reads again."""


class SpotTiles(Tiles):
    """Tiles of all sections of a task, one section after the other; a group is a section."""

    kind = "group"

    def __init__(self, path: Path, sections: Sequence[Section], target: ModelTarget | None) -> None:
        self.path = path
        self.sections = sections
        self.groups = [section.name for section in sections]
        counts = [len(section.spots) for section in sections]
        self.group = np.repeat(np.arange(len(sections)), counts)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.target = target
        self.normaliser = normaliser(target, None)
        self._last: Section | None = None

    def _at(self, tile: int) -> tuple[Section, int]:
        number = int(self.group[tile])
        return self.sections[number], tile - int(self._starts[number])

    def read(self, tile: int) -> bytes:
        section, spot = self._at(tile)
        if self._last is not section:
            self.close()
            self._last = section
        return section.tile(spot).tobytes()

    def pixels(self, data: bytes, tile: int) -> Pixels:
        return np.frombuffer(bytearray(data), np.uint8).reshape(SIDE, SIDE, 3)

    def close(self) -> None:
        """Give the memory of the last section back."""
        if self._last is not None:
            self._last.close()
            self._last = None

    def name(self, tile: int) -> str:
        section, spot = self._at(tile)
        return f"{section.source}, spot {section.spots[spot]}"

    @property
    def fix(self) -> str:
        return "copy the section again, or take it out"


@dataclass(frozen=True)
class Fold:
    """What is learnt from and what is tested.

    Attributes:
        name: ``0``, ``1``, ... of splits; else the patient, section, or part of a section that is tested.
        train, test: spots of the task, rising.
    """

    name: str
    train: Ints
    test: Ints


@dataclass(frozen=True)
class Task:
    """N spots of S sections, G genes.

    Attributes:
        name: the folder's.
        path: the folder.
        sections: S.
        genes: G names.
        genes_from: the file that names them, or how they were chosen.
        values: (N, G) float64, log1p of counts.
        counts_of: (S) the file that each section's counts are of.
    """

    name: str
    path: Path
    sections: list[Section]
    genes: list[str]
    genes_from: str
    values: Doubles
    counts_of: list[Path]

    @property
    def section(self) -> Ints:
        """(N,) number of each spot's section."""
        return np.repeat(np.arange(len(self.sections)), [len(each.spots) for each in self.sections])

    @property
    def places(self) -> Doubles:
        """(N, 2) of all spots, each in its own section's pixels."""
        return np.concatenate([each.places for each in self.sections])
