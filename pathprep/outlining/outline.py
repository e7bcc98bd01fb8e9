"""The front door: slides to masks of their tissue, and a page to judge them by."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pathprep.dataset.failed import FailedShard, write_failed
from pathprep.dataset.schema import build_id
from pathprep.errors import UsageError
from pathprep.launchers.base import Board, Launcher, Outcome
from pathprep.outlining import page
from pathprep.outlining.record import FOLDERS, Outlined
from pathprep.outlining.task import OutlineTask, done
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S, AnyPath, check_run, listed, path
from pathprep.sharding.drive import drive
from pathprep.sharding.names import with_names
from pathprep.sharding.run import too_full
from pathprep.sharding.shard import local_launcher
from pathprep.sharding.summary import untaken
from pathprep.slides import find
from pathprep.slides.find import Repeat
from pathprep.slides.walk import NotTaken
from pathprep.storage import atomic
from pathprep.storage.base import is_url
from pathprep.surveying.survey import parameters

VERSION = 1  # raised when the same settings give another mask than before
PAGE = "tissue.html"
log = logging.getLogger(__name__)


@dataclass
class Masks:
    """The account of a run.

    Attributes:
        root: the folder. made, skipped: masks of this run, and of earlier ones, by slide.
        failures: slides without one. page: where the page is.
        seconds, interrupted, stopped, not_taken, repeats: as of sharding.summary.RunSummary.
    """

    root: Path
    build_id: str
    slides: int
    skipped: dict[str, Outlined]
    made: dict[str, Outlined] = field(default_factory=dict)
    failures: dict[str, FailedShard] = field(default_factory=dict)
    page: Path | None = None
    seconds: float = 0.0
    interrupted: bool = False
    stopped: str = ""
    not_taken: NotTaken = field(default_factory=NotTaken)
    repeats: list[Repeat] = field(default_factory=list)

    @property
    def done(self) -> dict[str, Outlined]:
        """All masks, in the order of names."""
        return dict(sorted({**self.skipped, **self.made}.items()))

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "masks": str(self.root),
            "page": None if self.page is None else str(self.page),
            "build_id": self.build_id,
            "slides": self.slides,
            "done": len(self.made),
            "already_done": len(self.skipped),
            "failed": {name: failed.as_dict() for name, failed in self.failures.items()},
            **untaken(self.not_taken, self.repeats),
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "tissue": [each.facts(self.root) for each in self.done.values()],
            "seconds": round(self.seconds, 3),
        }


def tissue(
    slides: AnyPath | Iterable[AnyPath],
    out: AnyPath = "masks",
    *,
    png: bool = False,
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    workers: int | None = None,
    launcher: Launcher | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    rebuild: bool = False,
    min_free: float = MIN_FREE_GB,
    watch: Callable[[int, int], None] = lambda _done, _of: None,
    **settings: Any,
) -> Masks:
    """Write the tissue of slides as masks, and a page to judge them by.

    ``pathprep.shard(slides, masks=out)`` takes them. Call it again to go on. A mask that was edited since, as
    in QuPath, is kept.

    Args:
        slides, masks, mask_origin, workers, launcher, slide_timeout, min_free: as of ``pathprep.shard``.
        out: folder, made if absent. png: write each mask as a picture too, to png/.
        rebuild: make finished masks again, also those that were edited.
        watch: called with the number of slides that are done, and of all.
        settings: of ``pathprep.survey``, such as ``tissue_model="model.onnx"``.

    Returns:
        The account of the run.

    Raises:
        UsageError: an argument is wrong, or there is no slide.
        OSError: the folder cannot be read or written; a full disk ends the run in order instead.
    """
    check_run(workers=workers, slide_timeout=slide_timeout, min_free=min_free)
    if is_url(out):
        raise UsageError(f"`out` {out}: masks are written to a local folder; give one")
    params, root = parameters(**settings), Path(out)
    found = find.look([Path(each) for each in listed(slides)], path(masks), mask_origin)
    if not found.slides:
        raise UsageError("no slides given")
    values = {"kind": "masks", "reader": params.reader, "tissue": params.tissue.as_dict(), "version": VERSION}
    build = build_id(values)
    _prepare(root)
    named = with_names(found.slides, root)
    sources = [
        replace(each, default_mpp=params.default_mpp, mask=each.mask and each.mask.absolute())
        for each in named.slides
    ]
    skipped = {}
    for each in sources:
        standing = None if rebuild else done(root, each, build, png)
        if standing is not None:
            skipped[each.name] = standing
            (root / "failed" / f"{each.name}.json").unlink(missing_ok=True)
    summary = Masks(root, build, len(sources), skipped)
    summary.not_taken, summary.repeats = found.left, [*found.repeats, *named.repeats]
    tasks = [
        OutlineTask(root.absolute(), each, params, build, png, not rebuild)
        for each in sources
        if each.name not in skipped
    ]
    board, least = Board(len(tasks)), round(min_free * 1e9)
    drive(
        tasks,
        launcher or local_launcher(workers, None),
        board,
        slide_timeout,
        summary,
        lambda outcome: _record(outcome, tasks[outcome.number], summary),
        shown=lambda: watch(len(summary.made) + len(summary.failures), len(tasks)),
        full=lambda: too_full(root, least),
        disk=lambda _file: str(root),
    )
    _sweep(root)
    if not summary.stopped:
        summary.page = root / PAGE
        page.write(summary.page, root, list(summary.done.values()), summary.failures, params)
    return summary


def _prepare(root: Path) -> None:
    """Make the folder.

    Raises:
        UsageError: it is none, cannot be made, or holds something else.
    """
    if any((root / name).exists() for name in ("dataset.json", "mixed.json", "survey.json")):
        raise UsageError(f"{root}: holds a dataset or a survey; choose another `out`")
    try:
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{root}: not a folder; choose another `out`") from None
    except OSError as error:
        raise UsageError(f"{root}: cannot be made ({error.strerror}); choose another `out`") from None
    _sweep(root)


def _sweep(root: Path) -> None:
    for name in ("", *FOLDERS):
        atomic.sweep(root / name)


def _record(outcome: Outcome[Outlined], task: OutlineTask, summary: Masks) -> None:
    name = task.source.name
    if outcome.result is not None:
        summary.made[name] = outcome.result
        return
    assert outcome.failure is not None
    entry = summary.failures[name] = task.failed(outcome.failure)
    write_failed(summary.root / "failed" / f"{name}.json", entry)
