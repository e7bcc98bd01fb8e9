"""Many slides: what is to do, doing it, and the account of it. The files hold the truth.

A slide is done if its marker says so (marker.committed); everything else is made again. There is no
database and no lock: a run that was killed is taken up by the same command, and several runs may work
on one folder at once. Each takes its slides in an order of its own and skips what another has finished;
a slide that two make at the same time has the same bytes twice.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pathprep.dataset.failed import write_failed
from pathprep.dataset.marker import Marker, is_displaced, read_sealed, size_of
from pathprep.errors import StoreError
from pathprep.launchers import cards
from pathprep.launchers.base import Board, Launcher, Outcome, is_fatal
from pathprep.launchers.local import Local
from pathprep.params.shard import ShardParams
from pathprep.sharding.drive import drive
from pathprep.sharding.forecast import check_space, free
from pathprep.sharding.names import READERS
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import Plan, plan, sweep
from pathprep.sharding.quarantine import Standing, list_images, standing
from pathprep.sharding.remote import Remote
from pathprep.sharding.summary import RunSummary, Watcher
from pathprep.sharding.task import DatasetTask
from pathprep.slides.find import SlideSource
from pathprep.slides.identity import is_there
from pathprep.storage import atomic
from pathprep.words import size_in_words

log = logging.getLogger(__name__)


def shard(
    sources: list[SlideSource],
    root: Path,
    params: ShardParams,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    launcher: Launcher | None = None,
    part: tuple[int, int] | None = None,
    timeout: float | None = None,
    rebuild: bool = False,
    watch: Watcher | None = None,
    min_free: int = 0,
    forecast: bool = False,
    remote: Remote | None = None,
) -> RunSummary:
    """Shard slides into a dataset folder; slides that it already holds are left alone.

    Args:
        sources: from find.find.
        root: the dataset folder, made if absent.
        params: what shapes the pixels.
        workers: of the default launcher, launchers.local: slides at a time, by default one per core
            or four per GPU. Never changes a byte of the output.
        gpus: of the default launcher, if the device is ``cuda``: how many; None for all.
        launcher: where the slides are made.
        part: (k, n), 1 <= k <= n: only slides whose name hashes to part k of n.
        timeout: seconds for one slide.
        rebuild: make finished slides again, and replace a dataset made with other parameters.
        watch: called a few times a second with the board, the summary so far and the number of tasks.
        min_free: the run stops in order when the disk has fewer bytes free.
        forecast: refuse to start if the disk looks too small.
        remote: from remote.opened: the dataset is there, and ``root`` is its ``root``.

    Raises:
        UsageError: the folder holds a dataset made with other parameters, no slide was given, the disk
            is too small, or the GPUs that were asked for cannot be used.
        DatasetError: another run has begun to rebuild the dataset with other parameters.
        OSError: a file of the folder cannot be read or written; a full disk ends the run in order instead.
    """
    launcher = launcher or Local(workers, cards.find(gpus) if params.device == "cuda" else 0)
    planned = plan(sources, root, params, rebuild=rebuild, part=part, remote=remote)
    if forecast and remote is None:
        check_space(planned.todo, root, params, launcher, timeout=timeout)
    return make(
        planned,
        root,
        params,
        launcher,
        timeout=timeout,
        rebuild=rebuild,
        watch=watch,
        min_free=min_free,
        remote=remote,
    )


def make(
    plan: Plan[SlideSource],
    root: Path,
    params: ShardParams,
    launcher: Launcher,
    *,
    timeout: float | None = None,
    rebuild: bool = False,
    watch: Watcher | None = None,
    min_free: int = 0,
    remote: Remote | None = None,
) -> RunSummary:
    """Make the slides of a plan; see ``shard``."""
    place, threads = root.absolute(), launcher.threads(len(plan.todo))
    tasks = [ShardTask(place, slide, params, plan.build_id, threads, rebuild) for slide in plan.todo]
    if remote is not None:
        tasks = [remote.task(task) for task in tasks]
    summary = run(plan, tasks, root, launcher, timeout=timeout, watch=watch, min_free=min_free, remote=remote)
    summary.files = len({slide.slide or slide.name for slide in plan.slides})
    summary.resolutions = len(params.mpps)
    summary.repeats = plan.repeats
    return summary


def run(
    plan: Plan[Any],
    tasks: Sequence[DatasetTask[Any, Any]],
    root: Path,
    launcher: Launcher,
    *,
    timeout: float | None = None,
    watch: Watcher | None = None,
    min_free: int = 0,
    remote: Remote | None = None,
) -> RunSummary:
    """Run the tasks of a plan, for slides or for shards of a tile set alike; see ``shard``."""
    board = Board(len(tasks))
    summary = RunSummary(root, plan.build_id, len(plan.slides), plan.skipped, touched=plan.touched)
    if remote is not None:
        summary.url = str(remote.store)
    _forget_failures(plan, root, remote)
    for marker in plan.skipped.values():
        list_images(root, marker)

    def record(outcome: Outcome[Marker]) -> None:
        _record(outcome, tasks[outcome.number], summary, remote)

    drive(
        tasks,
        launcher,
        board,
        timeout,
        summary,
        record,
        shown=lambda: watch(board, summary, len(tasks)) if watch else None,
        full=lambda: too_full(root, min_free),
        disk=lambda file: _disk(file, root, remote),
    )
    if summary.interrupted or summary.stopped:
        sweep(root)  # what the stopped workers were writing
    summary.stale, summary.damaged_markers = _stale(plan, summary)
    return summary


def _forget_failures(plan: Plan[Any], root: Path, remote: Remote | None) -> None:
    """Remove what is recorded of failures of slides that are done: an archive was not mounted for once."""
    for path in (root / "failed").glob("*.json"):
        if path.stem in plan.skipped:
            path.unlink(missing_ok=True)
            if remote is not None:
                with suppress(StoreError):
                    remote.store.remove(f"failed/{path.name}")


def _stale(plan: Plan[Any], summary: RunSummary) -> tuple[list[str], list[str]]:
    """Names in the folder whose markers are of another build, and of those that are damaged.

    Of a part, its own only.
    """
    known = summary.skipped.keys() | summary.markers.keys()  # of this build: no need to read them
    folder = summary.root / "slides"
    if plan.whole:
        names = {path.stem for path in folder.glob("*.json") if not path.name.startswith(atomic.PREFIX)}
    else:
        names = {source.name for source in plan.slides}

    def state(name: str) -> str:
        path = folder / f"{name}.json"
        marker = read_sealed(path)
        if marker is None:
            return "damaged" if path.exists() else "gone"
        # another run may be replacing it at this moment
        other = marker.build_id != plan.build_id and not is_displaced(marker, plan.build_id)
        return "stale" if other else "own"

    others = sorted(names - known)
    with ThreadPoolExecutor(READERS) as pool:  # small files wait more than they work
        states = dict(zip(others, pool.map(state, others), strict=True))
    stale, damaged = ([name for name in others if states[name] == wanted] for wanted in ("stale", "damaged"))
    return stale, damaged


def _disk(file: str, root: Path, remote: Remote | None) -> str:
    """The disk that was full: that of the dataset, of a store, or where slides of a store are made."""
    if remote is None:
        return str(root)
    store = str(remote.store.root)
    return store if file.startswith(store) else str(remote.scratch)


def too_full(root: Path, min_free: int) -> str:
    """Why the run is to stop for lack of space; "" if it is not."""
    left = free(root)
    if left >= min_free:
        return ""
    return (
        f"{root}: the disk has {size_in_words(left)} free, less than the {size_in_words(min_free)} of "
        "`min_free`; make room, and the same command goes on"
    )


def _record(
    outcome: Outcome[Marker],
    task: DatasetTask[Any, Any],
    summary: RunSummary,
    remote: Remote | None = None,
) -> None:
    name = task.source.name
    if outcome.result is not None:
        (summary.markers if outcome.made else summary.skipped)[name] = outcome.result
        list_images(summary.root, outcome.result)
        if remote is not None:
            remote.record(name, outcome.result)
        return
    assert outcome.failure is not None
    entry = task.failed(outcome.failure)
    failed, path = (summary.root / folder / f"{name}.json" for folder in ("failed", "slides"))
    # Written before looking: whoever commits the slide from now on removes it
    try:
        write_failed(failed, entry)
    except OSError as error:
        if is_fatal(error):
            raise
        # a record that cannot be written must not end the run; the account has the failure all the same
        log.warning("%s: cannot be written (%s)", failed, error.strerror)
    if remote is not None:
        stands, marker = remote.fail(task, entry)
    else:
        marker = read_sealed(path)
        stands = standing(marker, task, entry, lambda name: size_of(summary.root / name))
    if stands.stays:
        failed.unlink(missing_ok=True)
    # A slide that is merely not there at the moment (an archive that is not mounted) keeps its shard
    elif stands is Standing.OUTDATED and remote is None and is_there(task.path):
        path.unlink(missing_ok=True)
    if stands is Standing.DONE and marker is not None:
        summary.skipped[name] = marker
        list_images(summary.root, marker)
    else:
        summary.failures[name] = entry
