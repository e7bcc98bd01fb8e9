"""The front door: a labelled tile set into a dataset."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pathprep.dataset.marker import DamagedImage
from pathprep.errors import UsageError
from pathprep.launchers.base import Launcher
from pathprep.params.presets import PresetName
from pathprep.params.running import MIN_FREE_GB, SLIDE_TIMEOUT_S, AnyPath, check_run, path
from pathprep.params.tile_set import TileParams
from pathprep.sharding.keys import key_for
from pathprep.sharding.plan import Plan
from pathprep.sharding.summary import RunSummary, Watcher
from pathprep.stain import Target
from pathprep.storage.place import local_folder
from pathprep.storage.tables import Columns
from pathprep.tilesets import find, run
from pathprep.tilesets.hidden import hide
from pathprep.tilesets.items import TileSet
from pathprep.tilesets.presets import registry
from pathprep.tilesets.presets.matching import matched
from pathprep.tilesets.shard import Part

Format = Literal["hdf5", "folders", "csv"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """What was found and what was done.

    Attributes:
        run: the account; its slides are shards. tiles: the set, with notes on it.
    """

    run: RunSummary
    tiles: TileSet

    @property
    def labels(self) -> Counter[str]:
        """Tiles in the dataset by label; "" for those without."""
        return run.labels(self.run)

    @property
    def damaged(self) -> list[DamagedImage]:
        """Every image that was left out, and why."""
        return run.damaged(self.run)

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        facts = self.run.as_dict()
        facts["shards"] = facts.pop("slides")
        del facts["not_taken"], facts["duplicates"]  # of slides; the notes are what a set leaves out
        facts["labels"] = dict(self.labels)
        facts["damaged"] = [vars(image) for image in self.damaged]
        facts["notes"] = self.tiles.notes
        return facts


def import_tiles(
    source: AnyPath,
    out: AnyPath = "dataset",
    *,
    preset: PresetName | None = None,
    format: Format | None = None,
    labels: AnyPath | None = None,
    columns: Columns | None = None,
    split: str | None = None,
    name: str | None = None,
    target: Target | AnyPath | None = None,
    workers: int | None = None,
    launcher: Launcher | None = None,
    part: tuple[int, int] | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    rebuild: bool = False,
    min_free: float = MIN_FREE_GB,
    pseudonymise: AnyPath | None = None,
    watch: Watcher | None = None,
    **settings: Any,
) -> Imported:
    """Make a dataset, as ``shard`` writes it, of a labelled tile set; labels and groups go into the index.

    Plain JPEGs keep their picture to the bit, without metadata, unless ``stain="bake"`` changes it. Call it
    again to go on: finished shards are left alone if their images are unchanged.

    Args:
        source: a folder: PCam's HDF5, a folder per class, or images and a CSV; or one ``_x.h5`` file.
        out: the dataset folder, made if absent.
        preset: a published set by name (pathprep.tilesets.presets): its layout, labels, groups, partitions
            and MPP are known, and what differs is said.
        format: how the set is laid out; None for what the folder looks like.
        labels: CSV of labels; None for labels.csv or annotations.csv in ``source``.
        columns: of the CSV, where they have other names than file, label, group, split and known sets'.
        split: only this partition, such as train.
        name: of the set, in shard names; None for that of the folder.
        target: stain target, or the JSON file of one, for ``stain="bake"``; None for the field's reference.
        workers: shards at a time; None for one per core. Never changes a byte.
        launcher: where shards are made; None for processes of this machine.
        part: (k, n), 1 <= k <= n: only shards whose name hashes to part k of n.
        slide_timeout: seconds after which a shard is given up.
        rebuild: make finished shards again, also with other parameters.
        min_free: gigabytes; the run stops in order when the disk has fewer free.
        pseudonymise: key file, made if absent: keyed names instead of those of the set, its images and groups
            (labels stay), and the table of them beside the key file. None: their own.
        watch: called a few times a second with counters, the summary so far and the number of shards.
        settings: parameters of what is stored such as ``stain="fit", tiles_per_shard=1000``, of a
            ``preset`` its MPP unless one is given; see
            ``pathprep.params.tile_set.TileParams.of``.

    Raises:
        UsageError: an argument is wrong, nothing is there, labels do not fit the images, or the folder holds
            slides, tiles made with other parameters, or another set of this name.
        DatasetError: another run has begun to rebuild the dataset.
        OSError: the folder cannot be read or written; a full disk ends the run in order instead.
    """
    check_run(workers=workers, slide_timeout=slide_timeout, min_free=min_free, part=part)
    root = local_folder(out)
    params = _params(preset, target, pseudonymise, settings)
    tiles = _find(source, out, preset, format, labels, columns, split, pseudonymise)
    done = run.import_tiles(
        tiles,
        root,
        params,
        name=name,
        workers=workers,
        launcher=launcher,
        part=part,
        timeout=slide_timeout,
        rebuild=rebuild,
        watch=watch,
        min_free=round(min_free * 1e9),
    )
    return Imported(done, tiles)


def planned(
    source: AnyPath,
    out: AnyPath,
    *,
    preset: PresetName | None = None,
    format: Format | None,
    labels: AnyPath | None,
    columns: Columns,
    split: str | None,
    name: str | None,
    target: Target | AnyPath | None,
    rebuild: bool,
    pseudonymise: AnyPath | None = None,
    **settings: Any,
) -> tuple[TileParams, Callable[[], Plan[Part]]]:
    """What ``import_tiles`` would do, for those that have it done elsewhere; see sharding.shard.planned.

    Returns:
        The parameters, and a function that makes or checks the dataset and tells what is to do.
    """
    root = local_folder(out)
    params = _params(preset, target, pseudonymise, settings)
    tiles = _find(source, out, preset, format, labels, columns, split, pseudonymise)
    return params, lambda: run.plan(tiles, root, params, name=name, rebuild=rebuild)


def _params(
    preset: str | None,
    target: Target | AnyPath | None,
    pseudonymise: AnyPath | None,
    settings: Mapping[str, Any],
) -> TileParams:
    """What shapes the tiles, with what a preset knows of them."""
    values = dict(settings)
    if preset is not None:
        known = registry.preset(preset)
        if values.get("mpp") is None:
            values["mpp"] = known.mpp
        values["crop"] = known.crop or values.get("crop", False)
    params = TileParams.of(target=Target.given(target), **values)
    if pseudonymise is not None and params.keep_metadata:
        raise UsageError(
            "`keep_metadata`: metadata of pictures names persons; leave it out with `pseudonymise`"
        )
    return params


def _find(
    source: AnyPath,
    out: AnyPath,
    preset: str | None,
    format: Format | None,
    labels: AnyPath | None,
    columns: Columns | None,
    split: str | None,
    pseudonymise: AnyPath | None = None,
) -> TileSet:
    if preset is None:
        tiles = find.find(Path(source), format=format, labels=path(labels), columns=columns, split=split)
    else:
        own = {"format": format, "labels": labels, "columns": columns if columns != Columns() else None}
        for option, given in own.items():
            if given is not None:
                raise UsageError(f"`{option}`: `preset` {preset} knows it; leave one of them out")
        tiles = matched(preset, Path(source), split)
    log.info("%s images (%s; labels: %s) -> %s", f"{len(tiles.items):,}", tiles.format, tiles.labels, out)
    for note in tiles.notes:
        log.warning("%s", note)
    return tiles if pseudonymise is None else hide(tiles, key_for(pseudonymise, out))
