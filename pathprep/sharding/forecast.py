"""What a run would make, seen from overviews and a few tiles of each slide, without writing anything."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.images import jpeg
from pathprep.kernels.tiling_cpu import cut
from pathprep.launchers.base import Board, Failure, Launcher, Progress
from pathprep.params.shard import ShardParams
from pathprep.sharding.pipeline import plan_tiles
from pathprep.sharding.summary import untaken
from pathprep.sharding.survey import survey
from pathprep.slides.find import Repeat, SlideSource
from pathprep.slides.identity import file_size
from pathprep.slides.slide import Slide
from pathprep.slides.unlike import by_note
from pathprep.slides.walk import NotTaken
from pathprep.tiles import qc
from pathprep.words import counted, size_in_words

SAMPLE = 8  # tiles of a slide that are encoded to learn their size
SLIDES = 8  # slides that are looked at before a run, of all sizes
# No need to look where the disk has so many times the slides' own size: tiles that do not overlap are never
# that much larger
PLENTY = 20
OVERHEAD = 1100  # bytes of a tile besides its JPEG: header and padding in the tar, rows of the indices


@dataclass(frozen=True)
class Seen:
    """What a run would make of a slide: tiles, bytes, what becomes of its grid's cells; its MPP, and codes
    of what it looks like (slides.unlike)."""

    tiles: int
    size: int
    counts: dict[str, int]
    mpp: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """A slide to look at: its tiles counted, some of them encoded. ``root``: the dataset folder."""

    root: Path
    source: SlideSource
    params: ShardParams

    @property
    def path(self) -> Path:
        """See launchers.base.Task."""
        return self.source.path

    def work(self, progress: Progress) -> tuple[Seen, bool]:
        """See launchers.base.Task; writes nothing, and needs no dataset folder.

        Raises:
            SlideError: the slide cannot be used.
        """
        params = self.params.at(self.source.at or self.params.mpp)
        progress.stage(1)
        with Slide(self.source.path, params.reader) as slide:
            found = survey(slide, params, self.source.mpp, self.source.mask, self.source.mask_origin)
            chosen, counts = plan_tiles(found, params, self.source.name)
            progress.planned(len(chosen))
            rng = np.random.default_rng([params.seed, *self.source.name.encode()])
            sample = chosen[np.sort(rng.choice(len(chosen), min(SAMPLE, len(chosen)), replace=False))]
            plan, sizes = found.plan, []
            side = plan.side // plan.downsample
            for column, row in sample.tolist():
                place = (column * plan.stride // plan.downsample, row * plan.stride // plan.downsample)
                pixels = slide.read(plan.level, *place, side, side)
                tile, figures = cut(pixels, np.zeros((1, 2), np.int32), side, plan.stored)
                if qc.verdicts(figures, params.qc)[0] < 0:
                    sizes.append(len(jpeg.encode(tile[0], params.quality, params.subsampling)))
        share = len(sizes) / max(1, len(sample))
        tiles = round(len(chosen) * share)
        size = round(tiles * (float(np.mean(sizes)) + OVERHEAD)) if sizes else 0
        return Seen(tiles, size, counts, found.mpp.value, found.notes), True


@dataclass
class Forecast:
    """What a run would make.

    Attributes:
        slides: to be made, as far as known; looked: those that were looked at, the rest is extrapolated.
        tiles, size: of all of them; bytes. counts: what becomes of the grids' cells where looked at.
        free: bytes on the disk of the dataset; None if it is on no disk. done: slides that are there already.
        failures: slides that cannot be used, by name.
        not_taken: files below the given folders that are no slides. repeats: files of slides that are taken.
    """

    slides: int
    looked: int = 0
    tiles: int = 0
    size: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    free: int | None = 0
    done: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    unlike: dict[str, list[str]] = field(default_factory=dict)
    not_taken: NotTaken = field(default_factory=NotTaken)
    repeats: list[Repeat] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As `--dry-run --json` prints it."""
        return {
            "slides": self.slides,
            "already_done": self.done,
            "failed": {name: asdict(failure) for name, failure in self.failures.items()},
            "tiles": self.tiles,
            "bytes": self.size,
            "free_bytes": self.free,
            "counts": dict(self.counts),
            "unlike": self.unlike,
            **untaken(self.not_taken, self.repeats),
        }


def look(
    todo: Sequence[SlideSource],
    root: Path,
    params: ShardParams,
    launcher: Launcher,
    *,
    timeout: float | None = None,
    watch: Callable[[int, int], None] = lambda _done, _of: None,
) -> Forecast:
    """Look at every slide.

    Args:
        todo: the slides. root: the dataset folder, which need not exist. params: of the run.
        launcher: where the slides are looked at. timeout: seconds for one.
        watch: called with the number of slides seen, and of all.

    Raises:
        UsageError: the launcher cannot be used as it was asked for.
    """
    forecast = Forecast(len(todo), free=free(root))
    seen: dict[str, Seen] = {}
    tasks = [Look(root.absolute(), source, params) for source in todo]
    with closing(launcher.run(tasks, Board(len(tasks)), timeout)) as outcomes:
        for outcome in outcomes:
            if outcome is not None and outcome.result is not None:
                forecast.looked += 1
                forecast.tiles += outcome.result.tiles
                forecast.size += outcome.result.size
                forecast.counts.update(outcome.result.counts)
                seen[todo[outcome.number].name] = outcome.result
            elif outcome is not None and outcome.failure is not None:
                source = todo[outcome.number]
                failure = replace(outcome.failure, error=source.said(outcome.failure.error))
                forecast.failures[source.name] = failure
            watch(forecast.looked + len(forecast.failures), len(tasks))
    mpps = {source.slide or source.name: seen[source.name].mpp for source in todo if source.name in seen}
    forecast.unlike = by_note({name: each.notes for name, each in seen.items()}, mpps)
    return forecast


def check_space(
    todo: Sequence[SlideSource],
    root: Path,
    params: ShardParams,
    launcher: Launcher,
    *,
    timeout: float | None = None,
) -> Forecast | None:
    """Refuse a run that the disk cannot hold; looks at some slides, unless the disk is large beyond doubt.

    Args:
        todo, root, params, launcher, timeout: see ``look``.

    Returns:
        The forecast, extrapolated to all slides by their files' sizes; None if there was no need for one.

    Raises:
        UsageError: the run would fill the disk.
    """
    sizes = np.array([file_size(source.path) or 0 for source in todo], np.float64)
    repeated = (params.tile / (params.tile - params.overlap)) ** 2  # how often a pixel is stored
    if not len(todo) or free(root) > PLENTY * repeated * sizes.sum():
        return None
    order = np.argsort(sizes, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(SLIDES, len(order))).round().astype(int))
    chosen = order[places]
    found = look([todo[i] for i in chosen], root, params, launcher, timeout=timeout)
    seen = sum(sizes[i] for i in chosen if todo[i].name not in found.failures)
    if not seen:
        return None
    # by size, not by number: the largest slide is always among those that were looked at
    scale = float(sizes.sum() / seen)
    found.slides, found.tiles, found.size = len(todo), round(found.tiles * scale), round(found.size * scale)
    if found.free is not None and found.size > found.free:
        raise UsageError(
            f"{root}: {counted(found.slides)} will take about "
            f"{size_in_words(found.size)} and the disk has {size_in_words(found.free)} free; make room, "
            "choose another `out`, or fewer slides at a time (without `forecast`, it starts all the same)"
        )
    return found


def free(root: Path) -> int:
    """Bytes free on the disk of a folder that need not exist yet."""
    place = root.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
