"""A tile set into a dataset: its shards are planned here, and made as slides are (pathprep.sharding.run)."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from pathprep.dataset import info
from pathprep.dataset.failed import FailedShard, read_failed
from pathprep.dataset.marker import DamagedImage, Marker, TileSetMarker, read_sealed
from pathprep.errors import UsageError
from pathprep.launchers.base import Launcher
from pathprep.launchers.local import Local
from pathprep.params.tile_set import TileParams
from pathprep.sharding import plan as plans
from pathprep.sharding.plan import Plan
from pathprep.sharding.run import run
from pathprep.sharding.summary import RunSummary, Watcher
from pathprep.slides.own_names import plain_name
from pathprep.storage.local import LocalStorage
from pathprep.tilesets.items import TileSet, pack
from pathprep.tilesets.shard import ImportTask, Part


def import_tiles(
    tiles: TileSet,
    root: Path,
    params: TileParams,
    *,
    name: str | None = None,
    workers: int | None = None,
    launcher: Launcher | None = None,
    part: tuple[int, int] | None = None,
    timeout: float | None = None,
    rebuild: bool = False,
    watch: Watcher | None = None,
    min_free: int = 0,
) -> RunSummary:
    """Import a tile set; shards that are finished and whose images are unchanged are left alone.

    Shards of the same set and partitions that its images no longer fill are removed. A dataset may hold
    several sets, if they are imported with the same parameters and differ in name.

    Args:
        tiles: from find.find.
        root: the dataset folder, made if absent.
        params: what shapes what is stored.
        name: of the set; default: the folder's.
        workers: of the default launcher, launchers.local: shards at a time, by default one per core. Never
            changes a byte of the output.
        launcher: where the shards are made.
        part: (k, n), 1 <= k <= n: only shards whose name hashes to part k of n.
        timeout: seconds for one shard.
        rebuild: make finished shards again, and replace a dataset made with other parameters.
        watch: called a few times a second with the board, the summary so far and the number of tasks.
        min_free: the run stops in order when the disk has fewer bytes free.

    Returns:
        The account; its "slides" are shards, and ``failures`` are shards that were not made. Images that
        were left out are counted (``damaged``) and named in the markers and in failed/.

    Raises:
        UsageError: the folder holds slides, tiles made with other parameters, or another set of this name.
        DatasetError: another run has begun to rebuild the dataset with other parameters.
        OSError: a file of the folder cannot be read or written; a full disk ends the run in order instead.
    """
    launcher = launcher or Local(workers)
    planned = plan(tiles, root, params, name=name, rebuild=rebuild, part=part)
    place, threads = root.absolute(), launcher.threads(len(planned.todo))
    tasks = [ImportTask(place, each, params, planned.build_id, threads, rebuild) for each in planned.todo]
    return run(planned, tasks, root, launcher, timeout=timeout, watch=watch, min_free=min_free)


def plan(
    tiles: TileSet,
    root: Path,
    params: TileParams,
    *,
    name: str | None = None,
    rebuild: bool = False,
    part: tuple[int, int] | None = None,
) -> Plan[Part]:
    """Make or check the dataset folder, remove what the set no longer fills, and see what is left to do.

    Args and errors: see ``import_tiles``.
    """
    title = plain_name(name or tiles.name)
    shards = pack(tiles.items, title, params.tiles_per_shard)
    parts = [Part(shard, tiles.root, title, items[0].split, items) for shard, items in shards.items()]
    _check(root, title, tiles.root, shards, rebuild)
    build_id = plans.prepare(root, params, rebuild)
    _remove_stale(root, parts)
    return plans.divide(parts, root, build_id, rebuild=rebuild, part=part)


def damaged(summary: RunSummary) -> list[DamagedImage]:
    """Every image that was left out, and why, of this run and of shards that an earlier one finished."""
    markers = [each for each in summary.done.values() if isinstance(each, TileSetMarker)]
    return [image for marker in markers for image in marker.damaged]


def labels(summary: RunSummary) -> Counter[str]:
    """Tiles per label; "" for those without."""
    total: Counter[str] = Counter()
    for marker in summary.done.values():
        if isinstance(marker, TileSetMarker):
            total.update(marker.labels)
    return total


def _check(root: Path, title: str, source: Path, shards: Iterable[str], rebuild: bool) -> None:
    """Refuse to write among slides, or over another set's shards."""
    there = LocalStorage(root)
    values = there.read_json(info.NAME) or {}
    if info.state_of(values) is info.State.WHOLE:
        kind = values["params"].get("kind", "slides")
    else:  # damaged or gone: the markers tell
        kind = "tiles" if isinstance(info.first_marker(there), TileSetMarker) else "slides"
    paths = sorted((root / "slides").glob("*.json"))
    if kind != "tiles" and paths:
        raise UsageError(
            f"{root}: holds {kind} (`pathprep shard`), not an imported tile set; use another `out`"
        )
    for marker in map(read_sealed, paths):
        if not isinstance(marker, TileSetMarker):
            continue
        if marker.set != title and marker.slide in shards:
            raise UsageError(
                f"{root}: {marker.slide} is a shard of the set {marker.set}; choose another `name`"
            )
        if marker.set == title and not rebuild and _is_elsewhere(marker, source):
            raise UsageError(
                f"{root}: holds a set named {title} from {marker.source.path}; choose another `name` "
                "for this one, or `rebuild` to replace it"
            )


def _is_elsewhere(shard: TileSetMarker | FailedShard, source: Path) -> bool:
    """Whether a shard is of another folder; one that is gone was moved: its shards are judged by images."""
    old = Path(shard.source.path)
    return old != source and old.exists()


def _remove_stale(root: Path, parts: list[Part]) -> None:
    """Shards that the set no longer fills would give its images twice. The marker goes first.

    So go those of another folder's set, which this one is to replace.
    """
    title, source = parts[0].set, parts[0].path
    splits, names = {part.split for part in parts}, {part.name for part in parts}
    reads: list[tuple[str, Callable[[Path], Marker | FailedShard | None]]]
    reads = [("slides", read_sealed), ("failed", read_failed)]
    for folder, read in reads:
        for path in sorted((root / folder).glob("*.json")):
            shard = read(path)
            if not isinstance(shard, TileSetMarker | FailedShard) or shard.set != title:
                continue
            if shard.split in splits and (path.stem not in names or _is_elsewhere(shard, source)):
                path.unlink(missing_ok=True)
                for file in shard.files if isinstance(shard, TileSetMarker) else ():
                    (root / file).unlink(missing_ok=True)
