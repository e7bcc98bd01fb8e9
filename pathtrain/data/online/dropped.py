"""Slides that a run has dropped, in files of the run, so that one that is resumed draws what it would have.

    RUN/dropped/<slide>.<rank>-<world>.json     slide, reason, and from which position on it no longer comes

A rank that cannot read a slide at a position drops it from there on, and draws the tiles of its own positions
from other slides. The other ranks do so from a step that none has prepared yet, so that all of them do it at
the same one. What is out at which position follows from these files alone, for any number of ranks; so a run
that is resumed from an earlier checkpoint draws again what it drew before, without reading the bad slide.
"""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.permutation import Ints
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of, write_sealed
from pathtrain.errors import CheckpointError

FOLDER = "dropped"
# Steps after which all ranks leave a slide out: more than one can have prepared that another has not trained
AGREED = 16


@dataclass(frozen=True)
class Dropped:
    """A slide that a rank could not read.

    Attributes:
        slide, reason: for people, too. position: the first that the rank could not fill from it.
        rank, world: of the rank. batch: of the run. step: from which on it is out for all ranks.
    """

    slide: str
    reason: str
    position: int
    rank: int
    world: int
    batch: int
    step: int

    def out(self, positions: Ints) -> npt.NDArray[np.bool_]:
        """(B,) at which of some positions the slide no longer comes."""
        own = (positions % self.batch) % self.world == self.rank
        found: npt.NDArray[np.bool_] = (positions >= self.step * self.batch) | (
            own & (positions >= self.position)
        )
        return found


class Record:
    """The files; one thread's.

    Args:
        folder: of the run; None keeps nothing.
    """

    def __init__(self, folder: Path | None, batch: int, rank: int, world: int) -> None:
        self.folder, self.batch, self.rank, self.world = folder, batch, rank, world
        self._entries: dict[str, Dropped] = {}  # by file name
        self.refresh()

    @property
    def entries(self) -> list[Dropped]:
        """All that is known, by the names of the files."""
        return [self._entries[name] for name in sorted(self._entries)]

    @property
    def slides(self) -> Mapping[str, str]:
        """Slide -> why."""
        return {each.slide: each.reason for each in self.entries}

    def refresh(self) -> None:
        """Read what other ranks, or the run before it was stopped, have written.

        Raises:
            CheckpointError: a file is damaged.
        """
        if self.folder is None:
            return
        for path in self.folder.glob("*.json"):
            if path.name in self._entries or path.name.startswith(atomic.PREFIX):
                continue
            values = read_json(path)
            try:
                if values is None or seal_of(values) is not Seal.WHOLE:
                    raise ValueError("its seal")
                entry = Dropped(**{key: value for key, value in values.items() if key != "seal"})
            except (TypeError, ValueError):
                raise CheckpointError(
                    f"{path}: damaged; it says which slide the run has dropped, without which it cannot "
                    "go on exactly: bring it back from a copy, delete it and accept other tiles, or `fresh` "
                    "starts over"
                ) from None
            self._entries[path.name] = entry

    def add(self, slide: str, reason: str, position: int) -> bool:
        """Note that this rank cannot fill a position; whether that changes anything."""
        name = f"{slide[:80]}-{zlib.crc32(slide.encode()):08x}.{self.rank}-{self.world}.json"
        known = self._entries.get(name)
        if known is not None and known.position <= position:
            return False
        if known is None:
            step = position // self.batch + AGREED
            entry = Dropped(slide, reason, position, self.rank, self.world, self.batch, step)
        else:  # the step is agreed on already
            entry = replace(known, position=position)
        self._entries[name] = entry
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_sealed(self.folder / name, asdict(entry))
        return True

    def take_back(self, position: int) -> None:
        """Forget what this rank has dropped at a position or later, of which no tile was trained on."""
        for name, entry in list(self._entries.items()):
            if (entry.rank, entry.world) == (self.rank, self.world) and entry.position >= position:
                del self._entries[name]
                if self.folder is not None:
                    (self.folder / name).unlink(missing_ok=True)

    def out(self, slide: str, position: int) -> bool:
        """Whether a slide no longer comes at a position."""
        at = np.array([position])
        return any(bool(each.out(at)[0]) for each in self._entries.values() if each.slide == slide)
