"""The account of a survey's run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathprep.dataset.failed import FailedShard
from pathprep.launchers.base import Board
from pathprep.sharding.summary import untaken
from pathprep.slides.find import Repeat
from pathprep.slides.unlike import by_note
from pathprep.slides.walk import NotTaken
from pathprep.surveys.account import account
from pathprep.surveys.record import Surveyed


@dataclass
class SurveySummary:
    """The account of a run.

    Attributes:
        slides: all that were asked for. skipped: surveyed by an earlier run, or another one meanwhile.
        made, failures: of this run, by slide name.
        others: slides of the folder that the run was not about, or that were made with other parameters.
        seconds, interrupted, stopped, not_taken, repeats: as of sharding.summary.RunSummary.
    """

    root: Path
    build_id: str
    slides: int
    skipped: dict[str, Surveyed]
    made: dict[str, Surveyed] = field(default_factory=dict)
    failures: dict[str, FailedShard] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    stopped: str = ""
    not_taken: NotTaken = field(default_factory=NotTaken)
    repeats: list[Repeat] = field(default_factory=list)

    @property
    def done(self) -> dict[str, Surveyed]:
        """All finished slides of the run, in the order of names."""
        return dict(sorted({**self.skipped, **self.made}.items()))

    def unlike(self) -> dict[str, list[str]]:
        """Slides that look unlike the others, names by code (slides.unlike)."""
        found = self.done
        return by_note(
            {name: slide.notes for name, slide in found.items()},
            {name: slide.mpp for name, slide in found.items()},
        )

    def as_dict(self) -> dict[str, Any]:
        """The summary as `--json` prints it."""
        return {
            "survey": str(self.root),
            "build_id": self.build_id,
            "slides": self.slides,
            "done": len(self.made),
            "already_done": len(self.skipped),
            "failed": {name: failed.as_dict() for name, failed in self.failures.items()},
            "others": self.others,
            **untaken(self.not_taken, self.repeats),
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "account": account(self.done.values()),
            "unlike": self.unlike(),
            "seconds": round(self.seconds, 3),
        }


Watcher = Callable[[Board, SurveySummary, int], None]
