"""A tile set into a dataset: what is to do, doing it, and the account of it. The files hold the truth."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from pathprep.dataset import marker as markers
from pathprep.dataset.schema import slide_name
from pathprep.errors import UsageError
from pathprep.launchers.base import Board, Outcome
from pathprep.launchers.local import Local
from pathprep.params.tile_set import TileParams
from pathprep.sharding import run
from pathprep.sharding.run import RunSummary, Watcher
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json
from pathprep.tilesets.items import TileSet, pack
from pathprep.tilesets.shard import ImportTask, Part

NAMED = 20  # damaged images that a quarantine's one-line error does not leave to the list below it


def import_tiles(
    found: TileSet,
    root: Path,
    params: TileParams,
    *,
    name: str | None = None,
    workers: int | None = None,
    rebuild: bool = False,
    watch: Watcher | None = None,
) -> RunSummary:
    """Import a tile set; shards that are finished and whose images are unchanged are left alone.

    Shards of the same set and partitions that its images no longer fill are removed. A dataset may hold
    several sets, if they are imported with the same parameters and differ in name.

    Args:
        found: from find.find.
        root: the dataset folder, made if absent.
        params: what shapes what is stored.
        name: of the set; default: the folder's.
        workers: shards at a time; default one per core. Never changes a byte of the output.
        rebuild: make finished shards again, and replace a dataset made with other parameters.
        watch: called a few times a second with the board, the summary so far and the number of tasks.

    Returns:
        The account; its "slides" are shards, and ``failures`` are shards that were not made. Images that
        were left out are counted (``damaged``) and named in the markers and in failed/.

    Raises:
        UsageError: the folder holds slides, tiles made with other parameters, or another set of this name.
        OSError: the folder cannot be written.
    """
    title = slide_name(name or found.name)
    plan = pack(found.items, title, params.tiles_per_shard)
    parts = [Part(shard, found.root, title, items[0].split, items) for shard, items in plan.items()]
    _check(root, title, found.root, plan.keys(), rebuild)
    build_id = run.prepare(root, params, rebuild)
    _remove_stale(root, title, {part.split for part in parts}, plan.keys())
    todo: list[Part] = []
    skipped: dict[str, dict[str, Any]] = {}
    for part in parts:
        if not rebuild and markers.is_done(root, part.name, build_id, part.inputs()):
            skipped[part.name] = markers.read_sealed(root / "slides" / f"{part.name}.json") or {}
            _quarantine(root, skipped[part.name])
        else:
            todo.append(part)
    launcher = Local(workers)
    threads, place = launcher.threads(len(todo)), root.absolute()
    tasks = [ImportTask(place, part, params, build_id, threads, rebuild) for part in todo]
    board, summary = Board(len(tasks)), RunSummary(root, build_id, len(parts), skipped)
    start = time.perf_counter()
    try:
        for outcome in launcher.run(tasks, board, None):
            if outcome is not None:
                _record(outcome, summary)
            summary.seconds = time.perf_counter() - start
            if watch:
                watch(board, summary, len(tasks))
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.seconds = time.perf_counter() - start
    summary.stale = sorted(n for n, m in _markers(root).items() if m.get("build_id") != build_id)
    return summary


def damaged(summary: RunSummary) -> list[tuple[str, str]]:
    """Every image that was left out, and why, of this run and of shards that an earlier one finished."""
    markers = {**summary.skipped, **summary.markers}
    return [
        (entry["image"], entry["error"])
        for _, marker in sorted(markers.items())
        for entry in marker["damaged"]
    ]


def labels(summary: RunSummary) -> Counter[str]:
    """Tiles per label; "" for those without."""
    return summary.totals("labels")


def _markers(root: Path, folder: str = "slides") -> dict[str, dict[str, Any]]:
    found = {path.stem: read_json(path) for path in sorted((root / folder).glob("*.json"))}
    return {name: marker or {} for name, marker in found.items()}


def _check(root: Path, title: str, source: Path, plan: Any, rebuild: bool) -> None:
    """Refuse to write among slides, or over another set's shards."""
    info = read_json(root / "dataset.json") or {}
    kind = info.get("params", {}).get("kind", "slides")
    made = _markers(root)
    if kind != "tiles" and made:
        raise UsageError(
            f"{root}: holds {kind} (`pathprep shard`), not an imported tile set; use another --out"
        )
    for name, marker in made.items():
        ours = marker.get("set") == title
        if not ours and name in plan:
            raise UsageError(
                f"{root}: {name} is a shard of the set {marker.get('set')}; choose another --name"
            )
        old = Path(marker["source"]["path"]) if ours else source
        # a folder that is no longer there was moved, and its shards are judged by their images
        if old != source and old.exists() and not rebuild:
            raise UsageError(
                f"{root}: holds a set named {title} from {old}; choose another --name "
                "for this one, or --rebuild to replace it"
            )


def _remove_stale(root: Path, title: str, splits: set[str], plan: Any) -> None:
    """Shards that the set no longer fills would give its images twice. The marker goes first."""
    for folder in ("slides", "failed"):
        for name, marker in _markers(root, folder).items():
            if marker.get("set") == title and marker.get("split") in splits and name not in plan:
                (root / folder / f"{name}.json").unlink(missing_ok=True)
                for file in marker.get("files", ()):
                    (root / file).unlink(missing_ok=True)


def _quarantine(root: Path, marker: dict[str, Any]) -> None:
    """List a shard's damaged images where failures are looked for; done again by every run."""
    bad, name = marker["damaged"], marker["slide"]
    if not bad:
        return
    first = "; ".join(f"{entry['image']}: {entry['error']}" for entry in bad[:NAMED])
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    entry = {
        "slide": name,
        "set": marker["set"],
        "split": marker["split"],
        "source": marker["source"],
        "build_id": marker["build_id"],
        "stage": "tiles",
        "kind": "images",
        "attempts": 1,
        "error": f"{len(bad)} of {len(bad) + marker['tiles']} images left out: {first}{more}",
        "images": bad,
    }
    atomic.write_json(root / "failed" / f"{name}.json", entry)


def _record(outcome: Outcome, summary: RunSummary) -> None:
    part: Part = outcome.task.source
    if outcome.marker is not None:
        (summary.markers if outcome.made else summary.skipped)[part.name] = outcome.marker
        _quarantine(summary.root, outcome.marker)
        return
    failure = {
        **(outcome.failure or {}),
        "slide": part.name,
        "set": part.set,
        "split": part.split,
        "source": {"path": str(part.path), "size": None},
        "build_id": summary.build_id,
    }
    # what an earlier build or earlier images gave must not stand beside the failure; but a set that is
    # merely not there at the moment (an archive that is not mounted) keeps its shards
    if part.path.is_dir():
        (summary.root / "slides" / f"{part.name}.json").unlink(missing_ok=True)
    atomic.write_json(summary.root / "failed" / f"{part.name}.json", failure)
    summary.failures[part.name] = failure
