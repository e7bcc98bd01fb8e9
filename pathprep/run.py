"""Many slides: what is to do, doing it, and the account of it. The files hold the truth.

A slide is done if its marker says so (shards.is_done); everything else is made again. There is no
database and no lock: a run that was killed is taken up by the same command.
"""

import importlib.util
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathprep import atomic, shards
from pathprep.errors import DatasetError, UsageError
from pathprep.launchers import cards, local
from pathprep.launchers.local import Board, Outcome
from pathprep.params import ShardParams
from pathprep.pipeline import Task
from pathprep.sources import Source, with_names


@dataclass
class Summary:
    """The account of a run.

    Attributes:
        slides: all that were asked for. skipped: done by an earlier run.
        markers, failures: of this run, by slide name.
        stale: slides in the folder that were made with other parameters: no part of the dataset.
        seconds: wall time. interrupted: stopped by Ctrl-C.
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
            "dataset": str(self.root),
            "build_id": self.build_id,
            "slides": self.slides,
            "done": len(self.markers),
            "already_done": len(self.skipped),
            "failed": self.failures,
            "stale": self.stale,
            "interrupted": self.interrupted,
            "tiles": made + sum(marker["tiles"] for marker in self.skipped.values()),
            "tiles_made": made,
            "counts": dict(self.totals("counts")),
            "stain": dict(self.totals("stain")),
            "seconds": round(self.seconds, 3),
            "tiles_per_second": round(made / self.seconds, 1) if self.seconds else 0.0,
        }


Watcher = Callable[[Board, Summary, int], None]


def shard(
    sources: list[Source],
    root: Path,
    params: ShardParams,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    timeout: float | None = None,
    rebuild: bool = False,
    watch: Watcher | None = None,
) -> Summary:
    """Shard slides into a dataset folder; slides that it already holds are left alone.

    Args:
        sources: from sources.find.
        root: the dataset folder, made if absent.
        params: what shapes the pixels.
        workers: slides at a time; default one per core, or four per GPU. Never changes a byte of the output.
        gpus: how many to use if the parameters' device is ``cuda``, None for all.
        timeout: seconds for one slide.
        rebuild: make finished slides again, and replace a dataset made with other parameters.
        watch: called a few times a second with the board, the summary so far and the number of tasks.

    Raises:
        UsageError: the folder holds a dataset made with other parameters, no slide was given, or the GPUs
            that were asked for cannot be used.
        OSError: the folder cannot be written.
    """
    if not sources:
        raise UsageError("no slides given")
    if params.reader != "openslide" and importlib.util.find_spec("cucim") is None:
        raise UsageError(
            "cuCIM is not installed: install with the extra cuda13 or cuda12 (both also run without a GPU), "
            "or use --reader openslide"
        )
    cuda = cards.find(gpus) if params.device == "cuda" else 0
    build_id = prepare(root, params, rebuild)
    named = with_names(sources, root, params.mpps)
    for source in named:
        if source.mask is not None and not source.mask.is_file():
            raise UsageError(f"{source.mask}: no such mask (for slide {source.path})")
    todo, skipped = [], {}
    for source in named:
        if not rebuild and shards.is_done(root, source.name, build_id, source.inputs()):
            skipped[source.name] = shards.read_marker(root / "slides" / f"{source.name}.json") or {}
        else:
            todo.append(source)
    cores = len(os.sched_getaffinity(0))
    workers = min(workers or cuda * cards.WORKERS or cores, max(1, len(todo)))
    threads = max(1, cores // workers)
    tasks = [Task(root, source, params, build_id, threads) for source in todo]
    board = Board(len(tasks))
    summary = Summary(root, build_id, len(named), skipped)
    start = time.perf_counter()
    try:
        for outcome in local.run(tasks, board, workers, timeout, cuda):
            if outcome is not None:
                _record(outcome, summary)
            summary.seconds = time.perf_counter() - start
            if watch:
                watch(board, summary, len(tasks))
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.seconds = time.perf_counter() - start
    markers = {path.stem: shards.read_marker(path) for path in (root / "slides").glob("*.json")}
    summary.stale = sorted(n for n, m in markers.items() if m is None or m.get("build_id") != build_id)
    return summary


def prepare(root: Path, params: ShardParams, rebuild: bool) -> str:
    """Make or check the dataset folder; returns the build id.

    Raises:
        UsageError: it holds slides made with other parameters and ``rebuild`` is off.
    """
    values = params.as_dict()
    build_id = shards.build_id(values)
    info = {"format": shards.FORMAT, "version": shards.VERSION, "build_id": build_id, "params": values}
    try:
        for folder in shards.FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)
            atomic.sweep(root / folder)
        atomic.sweep(root)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{root}: not a folder; choose another --out") from None
    path = root / "dataset.json"
    old = shards.read_marker(path)
    if path.exists() and (old is None or old.get("format") != shards.FORMAT):
        raise DatasetError(f"{path}: not written by pathprep; choose another --out")
    if old == info:
        return build_id
    if old is not None and not rebuild and any((root / "slides").glob("*.json")):
        changed = ", ".join(_differences(old.get("params", {}), values))
        raise UsageError(
            f"{root}: holds slides made with other parameters ({changed}); "
            "use another --out, or --rebuild to make them again"
        )
    atomic.write_json(path, info)
    return build_id


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} {a} there, {b} now")
    return found


def _record(outcome: Outcome, summary: Summary) -> None:
    name = outcome.task.source.name
    if outcome.marker is not None:
        summary.markers[name] = outcome.marker
        return
    source = outcome.task.source
    failure = {
        **(outcome.failure or {}),
        "slide": name,
        "source": {"path": str(source.path), "size": source.inputs()["size"]},
        "build_id": summary.build_id,
    }
    # A marker of an earlier build or input must not stand beside the failure; but a slide that is merely
    # not there at the moment (an archive that is not mounted) keeps its shard
    if source.path.exists():
        (summary.root / "slides" / f"{name}.json").unlink(missing_ok=True)
    atomic.write_json(summary.root / "failed" / f"{name}.json", failure)
    summary.failures[name] = failure
