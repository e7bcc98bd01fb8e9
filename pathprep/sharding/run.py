"""Many slides: what is to do, doing it, and the account of it. The files hold the truth.

A slide is done if its marker says so (markers.is_done); everything else is made again. There is no
database and no lock: a run that was killed is taken up by the same command, and several runs may work
on one folder at once. Each takes its slides in an order of its own and skips what another has finished;
a slide that two make at the same time has the same bytes twice.
"""

import hashlib
import importlib.util
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pathprep.dataset import marker as markers
from pathprep.dataset.schema import FOLDERS, FORMAT, VERSION, build_id
from pathprep.errors import DatasetError, UsageError, explain_os_error
from pathprep.launchers import cards
from pathprep.launchers.base import Board, Launcher, Outcome, is_fatal
from pathprep.launchers.local import Local
from pathprep.params.shard import ShardParams
from pathprep.sharding.forecast import check_space, format_bytes, free
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.quarantine import Standing, standing
from pathprep.sharding.remote import Remote
from pathprep.slides.find import READERS, SlideSource, file_size, with_names
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json


@dataclass
class RunSummary:
    """The account of a run.

    Attributes:
        slides: all that were asked for. skipped: done by an earlier run, or another one meanwhile.
        markers, failures: of this run, by slide name.
        stale: slides in the folder that were made with other parameters: no part of the dataset.
        seconds: wall time. interrupted: stopped by Ctrl-C or a signal.
        stopped: why the run ended before its last slide, if it did so for lack of space, or because the disk
            can no longer be written.
        url: of a remote dataset, whose ``root`` is but a local copy of its markers.
        files: slides, each counted once. resolutions: that each is sharded at, and counted in ``slides``.
    """

    root: Path
    build_id: str
    slides: int
    skipped: dict[str, dict[str, Any]]
    markers: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    stopped: str = ""
    url: str = ""
    files: int = 0
    resolutions: int = 1

    def totals(self, key: str) -> Counter[str]:
        """Sum of a marker's counts (``counts`` or ``stain``) over all finished slides."""
        total: Counter[str] = Counter()
        for marker in (*self.skipped.values(), *self.markers.values()):
            total.update(marker[key])
        return total

    def as_dict(self) -> dict[str, Any]:
        """The summary as `--json` prints it."""
        made = sum(marker["tiles"] for marker in self.markers.values())
        return {
            "dataset": self.url or str(self.root),
            "build_id": self.build_id,
            "slides": self.slides,
            "done": len(self.markers),
            "already_done": len(self.skipped),
            "failed": self.failures,
            "stale": self.stale,
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "tiles": made + sum(marker["tiles"] for marker in self.skipped.values()),
            "tiles_made": made,
            "counts": dict(self.totals("counts")),
            "stain": dict(self.totals("stain")),
            "seconds": round(self.seconds, 3),
            "tiles_per_second": round(made / self.seconds, 1) if self.seconds else 0.0,
        }


Watcher = Callable[[Board, RunSummary, int], None]


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        build_id: of the dataset.
        slides: all that were asked for. todo: those to be made, in random order, paths absolute.
        skipped: markers of those that are done, by slide name. whole: not one part of several.
    """

    build_id: str
    slides: list[SlideSource]
    todo: list[SlideSource]
    skipped: dict[str, dict[str, Any]]
    whole: bool = True


def plan(
    sources: list[SlideSource],
    root: Path,
    params: ShardParams,
    *,
    rebuild: bool = False,
    part: tuple[int, int] | None = None,
    dry: bool = False,
    remote: Remote | None = None,
) -> Plan:
    """Check everything that can be checked before the first slide, and see what is left to do.

    Args and errors: see ``shard``; ``dry`` writes nothing.
    """
    if not sources:
        raise UsageError("no slides given")
    if params.reader == "cucim" and importlib.util.find_spec("cucim") is None:
        raise UsageError(
            "cuCIM is not installed: install with the extra cuda13 or cuda12 (both also run without a GPU), "
            "or use --reader openslide"
        )
    build_id = prepare(root, params, rebuild, dry=dry)
    if remote is not None and not dry:
        remote.publish("dataset.json")
    size = None if remote is None else remote.size
    named = [replace(s, default_mpp=params.default_mpp) for s in with_names(sources, root, params.mpps)]
    for source in named:
        if source.mask is not None and not source.mask.is_file():
            raise UsageError(f"{source.mask}: no such mask (for slide {source.path})")
    if part is not None:
        named = [source for source in named if in_part(source.name, *part)]
    found = Plan(build_id, named, [], {}, whole=part is None)
    for source in named:
        marker = None
        if not rebuild and (root / "slides" / f"{source.name}.json").exists():  # else spare reading the slide
            marker = markers.committed(root, source.name, build_id, source.inputs(), size)
        if marker is not None:
            found.skipped[source.name] = marker
        else:
            mask = source.mask and source.mask.absolute()  # a worker may have another working directory
            found.todo.append(replace(source, mask=mask))
    # so that several runs on one folder share the work, instead of making the same slides side by side
    random.SystemRandom().shuffle(found.todo)
    return found


def in_part(name: str, number: int, parts: int) -> bool:
    """Whether a slide falls to part ``number`` (1 to ``parts``), by a hash of its name in the dataset."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()) % parts == number - 1


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
        sources: from sources.find.
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
    found = plan(sources, root, params, rebuild=rebuild, part=part, remote=remote)
    if forecast and remote is None:
        check_space(found.todo, root, params, launcher, timeout=timeout)
    return make(
        found,
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
    found: Plan,
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
    threads = launcher.threads(len(found.todo))
    tasks = [
        ShardTask(root.absolute(), source, params, found.build_id, threads, rebuild) for source in found.todo
    ]
    board = Board(len(tasks))
    summary = RunSummary(root, found.build_id, len(found.slides), found.skipped)
    summary.files = len({source.slide or source.name for source in found.slides})
    summary.resolutions = len(params.mpps)
    if remote is not None:
        tasks, summary.url = [remote.task(task) for task in tasks], remote.store.url
    start, left = time.perf_counter(), len(tasks)
    try:
        summary.stopped = _too_full(root, min_free) if left else ""
        with closing(launcher.run([] if summary.stopped else tasks, board, timeout)) as outcomes:
            for outcome in outcomes:
                if outcome is not None:
                    _record(outcome, summary, remote)
                    left -= 1
                summary.seconds = time.perf_counter() - start
                if watch:
                    watch(board, summary, len(tasks))
                if left:
                    summary.stopped = _too_full(root, min_free)
                    if summary.stopped:
                        break
    except KeyboardInterrupt:
        summary.interrupted = True
    except OSError as error:
        if not is_fatal(error):
            raise
        error.filename = root if remote is None else remote.scratch  # the disk, whichever file found it full
        summary.stopped = f"{explain_os_error(error)}; then the same command goes on"
    if summary.interrupted or summary.stopped:
        _sweep(root)  # what the stopped workers were writing
    summary.seconds = time.perf_counter() - start
    summary.stale = _stale(found, summary)
    return summary


def _stale(found: Plan, summary: RunSummary) -> list[str]:
    """Names in the folder whose markers are of another build; of a part, its own only."""
    known = summary.skipped.keys() | summary.markers.keys()  # of this build: no need to read them
    folder = summary.root / "slides"
    if found.whole:
        names = {path.stem for path in folder.glob("*.json") if not path.name.startswith(atomic.PREFIX)}
    else:
        names = {source.name for source in found.slides}

    def is_stale(name: str) -> bool:
        path = folder / f"{name}.json"
        marker = markers.read_sealed(path)
        # one that is being replaced by another run is not there for a moment
        return path.exists() if marker is None else marker.get("build_id") != found.build_id

    others = sorted(names - known)
    with ThreadPoolExecutor(READERS) as pool:  # small files wait more than they work
        return [name for name, stale in zip(others, pool.map(is_stale, others), strict=True) if stale]


def _too_full(root: Path, min_free: int) -> str:
    """Why the run is to stop for lack of space; "" if it is not."""
    left = free(root)
    if left >= min_free:
        return ""
    return (
        f"{root}: the disk has {format_bytes(left)} free, less than the {format_bytes(min_free)} of "
        "--min-free; make room, and the same command goes on"
    )


class Params(Protocol):
    """What shapes the pixels of a dataset."""

    def as_dict(self) -> dict[str, Any]:
        """What is written to dataset.json and hashed."""


def prepare(root: Path, params: Params, rebuild: bool, *, dry: bool = False) -> str:
    """Make or check the dataset folder; returns the build id. ``dry``: write nothing, take any parameters.

    Raises:
        UsageError: it holds slides made with other parameters and ``rebuild`` is off.
    """
    values = params.as_dict()
    build = build_id(values)
    info = {"format": FORMAT, "version": VERSION, "build_id": build, "params": values}
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: not a folder; choose another --out")
    if not dry:
        try:
            for folder in FOLDERS:
                (root / folder).mkdir(parents=True, exist_ok=True)
            _sweep(root)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{root}: not a folder; choose another --out") from None
        except OSError as error:
            raise UsageError(f"{root}: cannot be made ({error.strerror}); choose another --out") from None
    path = root / "dataset.json"
    there = path.exists()  # asked first: another run may be writing it
    old = read_json(path)
    if there and (old is None or old.get("format") != FORMAT):
        raise DatasetError(f"{path}: not written by pathprep; choose another --out")
    if old == info:
        return build
    if old is not None and not rebuild and not dry and any((root / "slides").glob("*.json")):
        changed = ", ".join(_differences(old.get("params", {}), values))
        raise UsageError(
            f"{root}: holds slides made with other parameters ({changed}); "
            "use another --out, or --rebuild to make them again"
        )
    if not dry:
        atomic.write_json(path, info)
    return build


def changes(root: Path, params: Params) -> str:
    """How parameters differ from those of the slides that a dataset folder holds; "" if it holds none."""
    old = read_json(root / "dataset.json")
    if old is None or not any((root / "slides").glob("*.json")):
        return ""
    return ", ".join(_differences(old.get("params", {}), params.as_dict()))


def _sweep(root: Path) -> None:
    for folder in (root, *(root / name for name in FOLDERS)):
        atomic.sweep(folder)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} {a} there, {b} now")
    return found


def _record(outcome: Outcome, summary: RunSummary, remote: Remote | None = None) -> None:
    source: SlideSource = outcome.task.source
    name = source.name
    if outcome.marker is not None:
        (summary.markers if outcome.made else summary.skipped)[name] = outcome.marker
        if remote is not None:
            remote.record(name, outcome.marker)
        return
    entry = {
        **(outcome.failure or {}),
        "slide": name,
        "source": {"path": str(source.path), "size": file_size(source.path)},
        "build_id": summary.build_id,
    }
    failed, path = (summary.root / folder / f"{name}.json" for folder in ("failed", "slides"))
    # Written before looking: whoever commits the slide from now on removes it
    atomic.write_json(failed, entry)
    if remote is not None:
        found, marker = remote.fail(outcome.task, entry)
    else:
        marker = markers.read_sealed(path)
        found = standing(marker, outcome.task, entry, lambda name: markers.size_of(summary.root / name))
    if found.stays:
        failed.unlink(missing_ok=True)
    # A slide that is merely not there at the moment (an archive that is not mounted) keeps its shard
    elif found is Standing.OUTDATED and remote is None and source.path.exists():
        path.unlink(missing_ok=True)
    if found is Standing.DONE and marker is not None:
        summary.skipped[name] = marker
    else:
        summary.failures[name] = entry
