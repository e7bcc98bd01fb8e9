"""The front door: slides into a survey, from which training draws tiles without any on disk."""

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pathprep.dataset.failed import write_failed
from pathprep.dataset.schema import build_id
from pathprep.errors import SlideError, UsageError
from pathprep.launchers.base import Board, Launcher, Outcome, is_fatal
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S, AnyPath, check_run, listed, path
from pathprep.params.settings import flat, unknown
from pathprep.params.shard import ShardParams
from pathprep.sharding.drive import drive
from pathprep.sharding.names import with_names
from pathprep.sharding.plan import Plan, differences, in_part
from pathprep.sharding.run import too_full
from pathprep.sharding.shard import local_launcher
from pathprep.slides import find
from pathprep.slides.find import Found, SlideSource
from pathprep.slides.identity import is_there
from pathprep.storage import atomic
from pathprep.storage.base import is_url
from pathprep.storage.json_files import read_json
from pathprep.surveying.summary import SurveySummary, Watcher
from pathprep.surveying.task import SurveyTask, done
from pathprep.surveys import folder, record
from pathprep.surveys.record import Surveyed
from pathprep.words import counted

# Raised when the same parameters give another mask than before, so that slides are surveyed again
SURVEY_VERSION = 1
# Of the settings of `pathprep shard`, those that a survey has: what goes in, and where the tissue is
SETTINGS = (
    "default_mpp",
    "min_mpp",
    "max_mpp",
    "reader",
    "tissue",
    "tissue_threshold",
    "min_piece",
    "tissue_model",
    "tissue_device",
)

log = logging.getLogger(__name__)


def survey(
    slides: AnyPath | Iterable[AnyPath],
    out: AnyPath = "survey",
    *,
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    workers: int | None = None,
    launcher: Launcher | None = None,
    part: tuple[int, int] | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    rebuild: bool = False,
    min_free: float = MIN_FREE_GB,
    watch: Watcher | None = None,
    **settings: Any,
) -> SurveySummary:
    """Look at slides once: where their tissue is, their levels, their MPP; for training straight from them.

    Call it again to go on: finished slides are left alone, failed ones are tried again, and of slides that
    have moved the new place is taken. A slide that fails does not raise; it stands in the summary's
    ``failures`` and in the survey's failed/.

    Args:
        slides, masks, mask_origin: as of ``pathprep.shard``.
        workers, launcher, part, slide_timeout, min_free: the same.
        out: the survey's folder, made if absent.
        rebuild: survey finished slides again, also with other parameters.
        watch: called a few times a second with counters, the summary so far and the number of slides.
        settings: of ``pathprep.shard``, those of SETTINGS, such as ``default_mpp=0.25, tissue="otsu"``.

    Returns:
        The account of the run.

    Raises:
        UsageError: an argument is wrong, there is no slide, or the survey was made with other parameters.
        DatasetError: another run has begun to make the survey with other parameters.
        OSError: the folder cannot be read or written; a full disk ends the run in order instead.
    """
    check_run(workers=workers, slide_timeout=slide_timeout, min_free=min_free, part=part)
    with planned(slides, out, masks=masks, mask_origin=mask_origin, rebuild=rebuild, **settings) as planning:
        root, params, found, plan = planning
        todo = plan(part)
    log.info("%s -> %s", counted(len(todo.slides)), root)
    tasks = [SurveyTask(root.absolute(), each, params, todo.build_id, rebuild) for each in todo.todo]
    skipped: dict[str, Any] = todo.skipped
    summary = SurveySummary(root, todo.build_id, len(todo.slides), skipped)
    summary.not_taken, summary.repeats = found.left, [*found.repeats, *todo.repeats]
    board = Board(len(tasks))
    least = round(min_free * 1e9)
    drive(
        tasks,
        launcher or local_launcher(workers, None),
        board,
        slide_timeout,
        summary,
        lambda outcome: _record(outcome, tasks[outcome.number], summary),
        shown=lambda: watch(board, summary, len(tasks)) if watch else None,
        full=lambda: too_full(root, least),
        disk=lambda _file: str(root),
    )
    if summary.interrupted or summary.stopped:
        _sweep(root)
    known = {each.name for each in todo.slides}
    summary.others = [name for name in folder.names(root) if name not in known] if part is None else []
    return summary


@contextmanager
def planned(
    slides: AnyPath | Iterable[AnyPath],
    out: AnyPath,
    *,
    masks: AnyPath | None,
    mask_origin: AskedOrigin,
    rebuild: bool,
    **settings: Any,
) -> Iterator[tuple[Path, ShardParams, Found, Callable[[tuple[int, int] | None], Plan[SlideSource]]]]:
    """What ``survey`` would do, for those that have it done elsewhere.

    Yields:
        The folder, the parameters, what the inputs hold, and a function of a part that makes or checks the
        folder and tells what is to do. Errors: as of ``survey``.
    """
    if is_url(out):
        raise UsageError(f"`out` {out}: a survey is written to a local folder; give one")
    params, root = parameters(**settings), Path(out)
    found = find.look([Path(each) for each in listed(slides)], path(masks), mask_origin)
    yield root, params, found, lambda part: _plan(found.slides, root, params, rebuild, part)


def parameters(**settings: Any) -> ShardParams:
    """The parameters that these settings of ``survey`` mean.

    Raises:
        UsageError: one is wrong, or shapes tiles, of which a survey has none.
    """
    for name in settings:
        if name not in SETTINGS:
            raise unknown(name, {each: flat(ShardParams)[each] for each in SETTINGS})
    return ShardParams.of(**settings)


def as_params(params: ShardParams) -> dict[str, Any]:
    """What is written to survey.json and hashed: what shapes a slide's file, besides the slide."""
    return {
        "kind": "survey",
        "reader": params.reader,
        "tissue": params.tissue.as_dict(),
        "survey_version": SURVEY_VERSION,
    }


def _plan(
    sources: list[SlideSource], root: Path, params: ShardParams, rebuild: bool, part: tuple[int, int] | None
) -> Plan[SlideSource]:
    if not sources:
        raise UsageError("no slides given")
    build = _prepare(root, as_params(params), rebuild)
    named = with_names(sources, root, made=record.read)
    whole = [
        replace(each, default_mpp=params.default_mpp, mask=each.mask and each.mask.absolute())
        for each in named.slides
    ]
    asked = [each for each in whole if part is None or in_part(each.name, *part)]
    plan = Plan(build, asked, [], {}, whole=part is None, repeats=named.repeats)
    skipped: dict[str, Any] = plan.skipped
    for each in asked:
        standing = None
        if not rebuild and (root / "slides" / f"{each.name}.json").exists():
            with suppress(SlideError):  # its mask cannot be read: that costs this slide
                standing = done(root, each, build)
        if standing is None:
            plan.todo.append(each)
        else:
            skipped[each.name] = standing.light
            (root / "failed" / f"{each.name}.json").unlink(missing_ok=True)
    # so that several runs on one folder share the work
    random.SystemRandom().shuffle(plan.todo)
    return plan


def _prepare(root: Path, params: dict[str, Any], rebuild: bool) -> str:
    """Make or check the folder; returns the build id.

    Raises:
        UsageError: it is no folder, holds something else, or slides surveyed with other parameters.
    """
    other = "choose another `out`"
    if any((root / name).exists() for name in ("dataset.json", "mixed.json")):
        raise UsageError(f"{root}: holds a dataset; {other}")
    try:
        for name in folder.FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{root}: not a folder; {other}") from None
    except OSError as error:
        raise UsageError(f"{root}: cannot be made ({error.strerror}); {other}") from None
    _sweep(root)
    build = build_id(params)
    old = read_json(root / folder.NAME)
    whole = old if old is not None and folder.is_whole(old) else None
    if whole is not None and (whole["build_id"], whole["version"]) == (build, folder.VERSION):
        return build
    if not rebuild and (standing := _first(root)) is not None and (whole or standing.build_id != build):
        changed = ", ".join(differences(whole["params"], params)) if whole else f"{folder.NAME} is damaged"
        raise UsageError(
            f"{root}: holds slides surveyed with other parameters ({changed}); use another `out`, or "
            "`rebuild` to survey them again"
        )
    folder.write_info(root, params)
    return build


def _first(root: Path) -> Surveyed | None:
    """A slide that stands in a survey's folder."""
    return next(
        (found for name in folder.names(root) if (found := record.read(root / "slides" / f"{name}.json"))),
        None,
    )


def _sweep(root: Path) -> None:
    for name in ("", *folder.FOLDERS):
        atomic.sweep(root / name)


def _record(outcome: Outcome[Surveyed], task: SurveyTask, summary: SurveySummary) -> None:
    name = task.source.name
    if outcome.result is not None:
        (summary.made if outcome.made else summary.skipped)[name] = outcome.result.light
        return
    assert outcome.failure is not None
    entry = summary.failures[name] = task.failed(outcome.failure)
    try:
        write_failed(summary.root / "failed" / f"{name}.json", entry)
    except OSError as error:
        if is_fatal(error):
            raise
        log.warning("%s/failed/%s.json: cannot be written (%s)", summary.root, name, error.strerror)
    # one that is merely not there at the moment (an archive that is not mounted) keeps its file
    if is_there(task.path):
        (summary.root / "slides" / f"{name}.json").unlink(missing_ok=True)
