"""Features of a dataset on disk: a file per slide, HDF5 or Parquet (pathtrain.features.files).

An image folder gives one file, named as the folder. It has no coords: such images have no place on a slide;
imported tiles (`pathprep import-tiles`) give the same, a file per shard. An image that cannot be used has no
row.

A file that was made from the same model, tar, size and precision is kept; see pathtrain.features.write.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from pathprep.dataset.marker import SlideMarker
from pathprep.errors import DatasetError, UsageError
from pathprep.params.settings import build
from pathprep.storage.place import local_folder
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, open_tiles, outcome
from pathtrain.features import embed_levels
from pathtrain.features.encode import Features, check_short, check_size, encode, resampled
from pathtrain.features.files import Part, origin
from pathtrain.features.fitting import check_tiles
from pathtrain.features.own_names import file_names
from pathtrain.features.progress import TileProgress
from pathtrain.features.write import EmbedSummary, make
from pathtrain.params.encoding import Format, How, Level
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.runs.opening import opened


def embed(
    model: Model,
    source: str | Path,
    out: str | Path = "features",
    *,
    format: Format = "hdf5",
    level: Level = "tile",
    seed: int = 1,
    **settings: Any,
) -> EmbedSummary:
    """Write the features of every tile of a dataset, or of an image folder: a file per slide, float32.

    Run again, it goes on where it stopped. Under torchrun each process makes its own files.

    Args:
        model: an encoder, or its run, exported folder or public name (pathtrain.runs.opening).
        source: a dataset, or a folder of images with a labels.csv.
        out: created; files in it that fit are kept, others of the same name are replaced.
        format: ``hdf5``, as CLAM and TRIDENT read it, or ``parquet``.
        level: ``tile``; of runs with three stages also ``region`` or ``slide``.
        seed: of random weights; not the run's own, if it began with random weights.
        settings: of How, by their flat names: ``device="cuda", readout="mean", weights=FILE``; of
            regions and slides ``device`` and ``threads`` only.

    Returns:
        Counts, and the slides that failed with their reasons.

    Raises:
        UsageError: a setting is wrong, or does not go with the level.
        ModelError, CheckpointError, DatasetError: the model, its start or the dataset cannot be read.
        PeerError: another process stopped.
    """
    how, source, out = build(How, settings), Path(source), local_folder(out)
    if level not in get_args(Level):
        raise UsageError(f"`level` is {level!r}; give tile, region or slide")
    if level != "tile":
        if extra := settings.keys() - {"device", "threads"}:  # the run has its own
            raise UsageError(f"`{min(extra)}` is for `level` tile: leave it out with `level` {level}")
        return embed_levels.embed(_run_of(model), source, out, level, how.device, how.threads, format)
    loaded = opened(model, how.weights, how.readout, seed)
    tiles = open_tiles(source, loaded.target)
    size = check_size(loaded, how.size)
    check_short(how, size)
    check_tiles(loaded, tiles, how)
    made = {
        "fingerprint": loaded.fingerprint,
        "size": size if how.short is None else f"{how.short} cropped to {size}",
        "precision": how.precision,
        **resampled(loaded, size),
    }

    def features(todo: list[Part], progress: TileProgress) -> Iterator[Features | DatasetError]:
        for part in todo:
            order = np.arange(part.tiles.start, part.tiles.stop)
            try:
                (found,), _ = encode(
                    [loaded], tiles, order, how, progress.advance, leave_out=_leave_out(tiles, part)
                )
            except DatasetError as error:
                yield error
            else:
                yield found if len(found) else DatasetError(f"{source}: none of its images can be used")
        progress.note(outcome(tiles))

    if isinstance(tiles, DatasetTiles):
        parts = _of_dataset(tiles, made)
        return make(parts, len(tiles.dataset.tile_counts()) - len(parts), out, format, features)
    return make([_of_folder(tiles, made)], 0, out, format, features)


def _leave_out(tiles: DatasetTiles | FolderTiles, part: Part) -> Callable[[int, DatasetError], None] | None:
    """What becomes of an image of a folder that cannot be used; None for a dataset, which can be repaired."""
    if isinstance(tiles, DatasetTiles):
        return None

    def leave_out(tile: int, error: DatasetError) -> None:
        part.left_out[tiles.files[tile]] = str(error)

    return leave_out


def _run_of(model: Model) -> Path:
    if not isinstance(model, LoadedModel):
        return Path(model)
    if model.run is None:
        raise UsageError(f"{model.name}: an exported model has no regions; give its run")
    return model.run


def _of_dataset(tiles: DatasetTiles, made: dict[str, Any]) -> list[Part]:
    params, parts = tiles.dataset.params, []
    called = file_names(tiles.dataset, tiles.slides)
    for number, slide in enumerate(tiles.slides):
        start, end = int(tiles.starts[number]), int(tiles.starts[number + 1])
        marker = tiles.dataset.marker(slide)
        attributes: dict[str, Any] = {}
        if isinstance(marker, SlideMarker):
            attributes = {
                "patch_size": params["tile"],
                "patch_size_level0": int(tiles.index.columns["side"][start]),
                "overlap": params["overlap"],
                "level0_magnification": round(10 / marker.mpp),
                "target_magnification": round(10 / (marker.target_mpp or params["mpp"])),
                "name": marker.own_name or slide,
                **origin(marker),
            }
        parts.append(
            Part(
                name=slide,
                file=called[slide],
                tiles=range(start, end),
                made={
                    **made,
                    "slide": slide,
                    "build_id": tiles.dataset.info["build_id"],
                    "source_sha256": marker.files[f"shards/{slide}.tar"].sha256,
                },
                arrays=partial(_coords if attributes else _strings, tiles, slice(start, end)),
                coords_attributes=attributes,
            )
        )
    return parts


def _coords(tiles: DatasetTiles, part: slice) -> dict[str, npt.NDArray[Any]]:
    return {"coords": tiles.places(part)}


def _strings(tiles: DatasetTiles, part: slice) -> dict[str, npt.NDArray[Any]]:
    """What imported tiles have instead of coordinates."""
    columns = {
        "files": tiles.sources[part],
        "labels": (tiles.labels or [])[part],
        "groups": [tiles.groups[number] for number in tiles.group[part]],
    }
    return _objects(columns)


def _objects(columns: dict[str, list[str]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


def _of_folder(tiles: FolderTiles, made: dict[str, Any]) -> Part:
    strings = {
        "files": tiles.files,
        "labels": tiles.labels,
        "groups": [tiles.groups[number] for number in tiles.group],
    }
    digest = hashlib.sha256()
    for row in zip(*strings.values(), strict=True):
        state = (tiles.path / row[0]).stat() if (tiles.path / row[0]).is_file() else None
        digest.update(repr((row, state and (state.st_size, state.st_mtime_ns))).encode())
    left_out: dict[str, str] = {}

    def arrays() -> dict[str, npt.NDArray[Any]]:
        kept = [number for number, file in enumerate(tiles.files) if file not in left_out]
        return _objects({name: [values[number] for number in kept] for name, values in strings.items()})

    return Part(
        name=tiles.path.resolve().name,
        file=tiles.path.resolve().name,
        tiles=range(len(tiles)),
        made={**made, "build_id": "", "source_sha256": digest.hexdigest()},
        arrays=arrays,
        coords_attributes={},
        left_out=left_out,
    )
