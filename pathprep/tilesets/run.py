"""A tile set into a dataset: its shards are planned here, and made as slides are (pathprep.sharding.run)."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pathprep.dataset import info
from pathprep.dataset.marker import DamagedImage, TileSetMarker, read_sealed
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
from pathprep.tilesets.reading import HANGS, PATIENCE_S
from pathprep.tilesets.shard import ImportTask, Part
from pathprep.tilesets.stale import is_elsewhere, remove_stale


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
    # so that a shard whose disk is dead is given up with the names of its images, before its time is up
    patience = PATIENCE_S if timeout is None else min(PATIENCE_S, timeout / (HANGS + 1))
    tasks = [
        ImportTask(place, each, params, planned.build_id, threads, rebuild, patience) for each in planned.todo
    ]
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
    bare = not params.keep_metadata and params.stain.mode != "bake"  # which codes every tile anew
    parts = [
        Part(shard, tiles.root, title, items[0].split, items, tiles.alias, bare)
        for shard, items in shards.items()
    ]
    _check(root, title, tiles, shards, rebuild)
    key_id = None if tiles.alias is None else tiles.alias.key_id
    build_id = plans.prepare(root, params, rebuild, key_id=key_id)
    remove_stale(root, parts)
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


def _check(root: Path, title: str, source: TileSet, shards: Iterable[str], rebuild: bool) -> None:
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
        if marker.set == title and not rebuild and is_elsewhere(marker, source):
            raise UsageError(
                f"{root}: holds a set named {title} from {marker.source.path}; choose another `name` "
                "for this one, or `rebuild` to replace it"
            )
