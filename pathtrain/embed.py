"""Features of a dataset on disk: a file per slide, HDF5 or Parquet (pathtrain.feature_files).

An image folder gives one file, named as the folder. It has no coords: such images have no place on a slide;
imported tiles (`pathprep import-tiles`) give the same, a file per shard.

Files are written whole or not at all; a file that was made from the same model, tar, size and precision is
kept. Under torchrun every process takes slides of its own, and its own card; they need not talk to each
other, since the files say what is done, so each may be killed and started again.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep import atomic
from pathprep.errors import UsageError
from pathtrain.data.tiles import DatasetTiles, FolderTiles, open_tiles, outcome
from pathtrain.encode import How, Place, TileProgress, check_size, encode
from pathtrain.feature_files import FORMATS
from pathtrain.models.load import load


@dataclass(frozen=True)
class Summary:
    """What ``embed`` did: files written and kept, slides without a tile, tiles encoded, D, seconds.

    Of several processes, each tells of its own slides; the first one counts the slides without a tile.
    """

    written: int
    kept: int
    empty: int
    tiles: int
    dim: int
    seconds: float
    place: Place


def embed(model: Path, source: Path, out: Path, how: How | None = None, format: str = "hdf5") -> Summary:
    """Write the features of every tile of a dataset, or of an image folder, to the folder ``out``.

    Under torchrun, of this process's share of the slides.

    Args:
        model: a run or an exported model.
        source: a dataset, or a folder of images with a labels.csv.
        out: created; files in it that fit are kept, others of the same name are replaced.
        how: size, batch, threads, device, precision.
        format: ``hdf5`` or ``parquet``.

    Raises:
        PathprepError: the model, the dataset or an option is wrong.
    """
    how, place = how or How(), Place.of_environment()
    if format not in FORMATS:
        raise UsageError(f"--format {format}: give {' or '.join(FORMATS)}")
    ending, fits, write = FORMATS[format]
    loaded = load(model)
    tiles = open_tiles(source, loaded.target)
    size = check_size(loaded, how.size)
    made = {"fingerprint": loaded.fingerprint, "size": size, "precision": how.precision}
    out.mkdir(parents=True, exist_ok=True)
    atomic.sweep(out)
    parts = _of_dataset(tiles, made) if isinstance(tiles, DatasetTiles) else [_of_folder(tiles, made)]
    empty = len(tiles.dataset.tile_counts()) - len(parts) if isinstance(tiles, DatasetTiles) else 0
    parts = share(parts, place)
    todo = [part for part in parts if not fits(out / f"{part.name}{ending}", part)]
    start = time.perf_counter()
    with TileProgress(sum(len(part.tiles) for part in todo), "embed") as progress:
        for part in todo:
            order = np.arange(part.tiles.start, part.tiles.stop)
            (features,), _ = encode([loaded], tiles, order, how, progress.advance)
            write(out / f"{part.name}{ending}", part, features)
            progress.line(f"{part.name}: {len(part.tiles)} tiles")
        progress.note(outcome(tiles))
    return Summary(
        written=len(todo),
        kept=len(parts) - len(todo),
        empty=empty if place.rank == 0 else 0,
        tiles=sum(len(part.tiles) for part in todo),
        dim=loaded.dim,
        seconds=time.perf_counter() - start,
        place=place,
    )


@dataclass(frozen=True)
class Part:
    """One output file: its name, the tiles in it, what it is made from, and the arrays beside features.

    The arrays are made when they are written: those of all slides at once would fill the memory.
    """

    name: str
    tiles: range
    made: dict[str, Any]
    arrays: Callable[[], dict[str, npt.NDArray[Any]]]
    coords_attributes: dict[str, Any]


def share(parts: list[Part], place: Place) -> list[Part]:
    """The files of one of several processes: each file in one share, the shares' tiles about equal.

    It depends on the files alone, not on which are done: processes that start at different times agree.
    """
    if place.world == 1:
        return parts
    loads = [0] * place.world
    mine = []
    for part in sorted(parts, key=lambda part: (-len(part.tiles), part.name)):
        least = loads.index(min(loads))
        loads[least] += len(part.tiles)
        if least == place.rank:
            mine.append(part)
    return sorted(mine, key=lambda part: part.tiles.start)


def _of_dataset(tiles: DatasetTiles, made: dict[str, Any]) -> list[Part]:
    params, parts = tiles.dataset.params, []
    for number, slide in enumerate(tiles.slides):
        start, end = int(tiles.starts[number]), int(tiles.starts[number + 1])
        marker = tiles.dataset.marker(slide)
        imported = tiles.labels is not None
        parts.append(
            Part(
                name=slide,
                tiles=range(start, end),
                made={
                    **made,
                    "build_id": tiles.dataset.info["build_id"],
                    "source_sha256": marker["files"][f"shards/{slide}.tar"]["sha256"],
                },
                arrays=partial(_strings if imported else _coords, tiles, slice(start, end)),
                coords_attributes={}
                if imported
                else {
                    "patch_size": params["tile"],
                    "patch_size_level0": int(tiles.index.columns["side"][start]),
                    "overlap": params["overlap"],
                    "level0_magnification": round(10 / marker["mpp"]),
                    "target_magnification": round(10 / marker.get("target_mpp", params["mpp"])),
                    "name": slide,
                },
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
    return Part(
        name=tiles.path.resolve().name,
        tiles=range(len(tiles)),
        made={**made, "build_id": "", "source_sha256": digest.hexdigest()},
        arrays=lambda: _objects(strings),
        coords_attributes={},
    )
