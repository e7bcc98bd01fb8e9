"""The account of a run."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import Marker, SlideMarker
from pathprep.launchers.base import Board
from pathprep.slides.find import Repeat
from pathprep.slides.unlike import by_note
from pathprep.slides.walk import NotTaken


@dataclass
class RunSummary:
    """The account of a run.

    Attributes:
        slides: all that were asked for. skipped: done by an earlier run, or another one meanwhile.
        markers, failures: of this run, by slide name.
        stale: slides in the folder that were made with other parameters: no part of the dataset.
        damaged_markers: names of damaged markers there: nobody knows what they stand for.
        seconds: wall time. interrupted: stopped by Ctrl-C or a signal.
        stopped: why the run ended before its last slide, if it did so for lack of space or memory, or because
            the disk can no longer be written.
        url: of a remote dataset, whose ``root`` is but a local copy of its markers.
        files: slides, each counted once. resolutions: that each is sharded at, and counted in ``slides``.
        not_taken: files below the given folders that are no slides. repeats: files of slides that are taken.
        touched: skipped slides whose files were written to since, with the same size and ends.
    """

    root: Path
    build_id: str
    slides: int
    skipped: dict[str, Marker]
    markers: dict[str, Marker] = field(default_factory=dict)
    failures: dict[str, FailedShard] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    damaged_markers: list[str] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    stopped: str = ""
    url: str = ""
    files: int = 0
    resolutions: int = 1
    not_taken: NotTaken = field(default_factory=NotTaken)
    repeats: list[Repeat] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)

    @property
    def done(self) -> dict[str, Marker]:
        """Markers of all finished slides, of this run or an earlier one, in the order of names."""
        return dict(sorted({**self.skipped, **self.markers}.items()))

    def counts(self) -> Counter[str]:
        """What became of the cells of all finished slides' grids."""
        return _sum(marker.counts for marker in self.done.values())

    def stain(self) -> Counter[str]:
        """Tiles of all finished slides, by stain status."""
        return _sum(marker.stain for marker in self.done.values())

    def unlike(self) -> dict[str, list[str]]:
        """Finished slides that look unlike the others, names by code (slides.unlike)."""
        slides = {name: made for name, made in self.done.items() if isinstance(made, SlideMarker)}
        mpps = {made.slide_id or name: made.mpp for name, made in slides.items()}
        return by_note({name: made.notes for name, made in slides.items()}, mpps)

    def mask_notes(self) -> dict[str, list[str]]:
        """What the user should know of masks, by slide; of this run's slides only."""
        taken = {name: made.mask for name, made in self.markers.items() if isinstance(made, SlideMarker)}
        return {name: list(mask.notes) for name, mask in sorted(taken.items()) if mask and mask.notes}

    def as_dict(self) -> dict[str, Any]:
        """The summary as `--json` prints it."""
        made = sum(marker.tiles for marker in self.markers.values())
        return {
            "dataset": self.url or str(self.root),
            "build_id": self.build_id,
            "slides": self.slides,
            "done": len(self.markers),
            "already_done": len(self.skipped),
            "failed": {name: failed.as_dict() for name, failed in self.failures.items()},
            "stale": self.stale,
            "damaged_markers": self.damaged_markers,
            "touched": self.touched,
            **untaken(self.not_taken, self.repeats),
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "tiles": made + sum(marker.tiles for marker in self.skipped.values()),
            "tiles_made": made,
            "counts": dict(self.counts()),
            "stain": dict(self.stain()),
            "unlike": self.unlike(),
            "mask_notes": self.mask_notes(),
            "seconds": round(self.seconds, 3),
            "tiles_per_second": round(made / self.seconds, 1) if self.seconds else 0.0,
        }


def untaken(not_taken: NotTaken, repeats: Sequence[Repeat]) -> dict[str, Any]:
    """What a run left out of the given folders, as `--json` prints it."""
    listed = [{"file": str(repeat.path), "is": str(repeat.of)} for repeat in repeats]
    return {"not_taken": not_taken.as_dict(), "duplicates": listed}


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


Watcher = Callable[[Board, RunSummary, int], None]
