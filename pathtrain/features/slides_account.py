"""The account of slides that were embedded straight from their files, of one process and of all together."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import SlideMarker
from pathprep.params.shard import ShardParams
from pathprep.sharding.summary import untaken
from pathprep.slides.find import Found, Repeat
from pathprep.slides.unlike import by_note
from pathprep.slides.walk import NotTaken
from pathtrain.distributed.workers import Place
from pathtrain.features.write import EmbedSummary


@dataclass
class SlidesSummary:
    """What one process, or all of them, did.

    Attributes:
        place: this process. kept: slides that were done before, or by another run meanwhile.
        written, empty: slides of this run with tiles, and without. failures: by slide.
        tiles, dim: as of EmbedSummary. counts: what became of the cells of the slides' grids, by reason.
        stain: tiles by stain status. reading: seconds of the readers by what they did, all summed up.
        notes: what slides look like that others do not, by slide; mpps: of the slides.
        mask_notes: what the user should know of their masks, by slide.
        seconds: wall time. busy_seconds: of that, from the first reader's start to the last file.
        waited_seconds: of these, those in which the model had nothing to do.
        stopped: why the run ended before its last slide; "" if it did not.
        not_taken, repeats: see pathprep.sharding.summary.RunSummary. tile, mpp, stain_mode: of the tiles.
    """

    place: Place
    kept: int = 0
    written: int = 0
    empty: int = 0
    failures: dict[str, FailedShard] = field(default_factory=dict)
    tiles: int = 0
    dim: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    stain: Counter[str] = field(default_factory=Counter)
    reading: Counter[str] = field(default_factory=Counter)
    notes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    mpps: dict[str, float] = field(default_factory=dict)
    mask_notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    busy_seconds: float = 0.0
    waited_seconds: float = 0.0
    stopped: str = ""
    not_taken: NotTaken = field(default_factory=NotTaken)
    repeats: list[Repeat] = field(default_factory=list)
    tile: int = 0
    mpp: float = 0.0
    stain_mode: str = "none"

    @classmethod
    def of(cls, place: Place, kept: int, found: Found, params: ShardParams) -> Self:
        """Of a run that begins."""
        return cls(
            place,
            kept,
            not_taken=found.left,
            repeats=found.repeats,
            tile=params.tile,
            mpp=params.mpp,
            stain_mode=params.stain.mode,
        )

    def add(self, slide: str, marker: SlideMarker, shape: tuple[int, ...] = ()) -> None:
        """Count a slide that is done; ``shape`` of a tile's features, if it has tiles."""
        if marker.tiles:
            self.written += 1
            self.dim = shape[-1]
        else:
            self.empty += 1
        self.tiles += marker.tiles
        self.counts.update(marker.counts)
        self.stain.update(marker.stain)
        self.reading.update(marker.seconds)
        self.notes[slide], self.mpps[slide] = marker.notes, marker.mpp
        if marker.mask is not None and marker.mask.notes:
            self.mask_notes[slide] = marker.mask.notes

    @property
    def waited(self) -> float:
        """Share of its time, 0 to 1, in which the model had nothing to do."""
        return self.waited_seconds / self.busy_seconds if self.busy_seconds else 0.0

    @property
    def failed(self) -> Mapping[str, str]:
        """Slide -> why it has no file."""
        return {name: entry.error for name, entry in sorted(self.failures.items())}

    def unlike(self) -> dict[str, list[str]]:
        """What slides look like that others do not: slides by note."""
        return by_note(self.notes, self.mpps)

    def __str__(self) -> str:
        plain = EmbedSummary(
            self.written,
            self.kept,
            self.empty,
            dict(self.failed),
            self.tiles,
            self.dim,
            self.seconds,
            self.place,
        )
        waited = f"; the model waited {self.waited:.0%} of its time" if self.written else ""
        return f"{plain}{waited}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        reading = {name: round(seconds, 3) for name, seconds in self.reading.items() if name != "total"}
        return {
            "written": self.written,
            "kept": self.kept,
            "empty": self.empty,
            "failed": {name: entry.as_dict() for name, entry in sorted(self.failures.items())},
            "tiles": self.tiles,
            "dim": self.dim,
            "tile": self.tile,
            "mpp": self.mpp,
            "stain_mode": self.stain_mode,
            "counts": dict(self.counts),
            "stain": dict(self.stain),
            "unlike": self.unlike(),
            "mask_notes": {name: list(notes) for name, notes in sorted(self.mask_notes.items())},
            **untaken(self.not_taken, self.repeats),
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "tiles_per_second": round(self.tiles / self.busy_seconds, 1) if self.busy_seconds else 0.0,
            "model_waited": round(self.waited, 4),
            "reading_seconds": reading,
            "processes": self.place.world,
        }


def gathered(own: SlidesSummary, place: Place) -> SlidesSummary:
    """The account of all processes, on each of them.

    Raises:
        PeerError: another process stopped.
    """
    every = place.gather(own)
    if len(every) == 1:
        return own
    whole = SlidesSummary(place, not_taken=own.not_taken, repeats=own.repeats)
    whole.tile, whole.mpp, whole.stain_mode = own.tile, own.mpp, own.stain_mode
    for one in every:
        for name in ("kept", "written", "empty", "tiles", "busy_seconds", "waited_seconds"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for name in ("failures", "notes", "mpps", "mask_notes"):
            getattr(whole, name).update(getattr(one, name))
        for name in ("counts", "stain", "reading"):
            getattr(whole, name).update(getattr(one, name))
        whole.stopped = whole.stopped or one.stopped
    whole.dim, whole.seconds = max(one.dim for one in every), max(one.seconds for one in every)
    return whole
