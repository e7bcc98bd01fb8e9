"""Features of a dataset on disk: one HDF5 file per slide.

    features/<slide>.h5    the layout that CLAM and TRIDENT read
      features  (N, D) float32, in the order of the dataset's index
      coords    (N, 2) int64, x and y of the tile's corner in level-0 pixels; TRIDENT's attributes on it:
                patch_size (at the target magnification), patch_size_level0, overlap, name, and
                level0_magnification and target_magnification, nominal: 10 / MPP, rounded
      attributes: what it was made from (MADE_FROM)

An image folder gives one file, features/<folder>.h5, with features and the strings files, labels and
groups. It has no coords: such images have no place on a slide. Imported
tiles (`pathprep import-tiles`) give the same, a file per shard.

Files are written whole or not at all; a file that was made from the same model, tar and size is kept.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pathprep import atomic
from pathtrain.data.tiles import DatasetTiles, FolderTiles, open_tiles, outcome
from pathtrain.encode import Features, How, TileProgress, check_size, encode
from pathtrain.models.load import load

MADE_FROM = ("fingerprint", "build_id", "source_sha256", "size")


@dataclass(frozen=True)
class Summary:
    """What ``embed`` did: files written and kept, slides without a tile, tiles encoded, D, seconds."""

    written: int
    kept: int
    empty: int
    tiles: int
    dim: int
    seconds: float


def embed(model: Path, source: Path, out: Path, how: How | None = None) -> Summary:
    """Write the features of every tile of a dataset, or of an image folder, to the folder ``out``.

    Args:
        model: a run or an exported model.
        source: a dataset, or a folder of images with a labels.csv.
        out: created; files in it that fit are kept, others of the same name are replaced.
        how: size, batch, threads, device.

    Raises:
        PathprepError: the model, the dataset or an option is wrong.
    """
    how = how or How()
    loaded = load(model)
    tiles = open_tiles(source, loaded.target)
    made = {"fingerprint": loaded.fingerprint, "size": check_size(loaded, how.size)}
    out.mkdir(parents=True, exist_ok=True)
    atomic.sweep(out)
    parts = _of_dataset(tiles, made) if isinstance(tiles, DatasetTiles) else [_of_folder(tiles, made)]
    todo = [part for part in parts if not _fits(out / f"{part.name}.h5", part)]
    start = time.perf_counter()
    with TileProgress(sum(len(part.tiles) for part in todo), "embed") as progress:
        for part in todo:
            order = np.arange(part.tiles.start, part.tiles.stop)
            (features,), _ = encode([loaded], tiles, order, how, progress.advance)
            _write(out / f"{part.name}.h5", part, features)
            progress.line(f"{part.name}: {len(part.tiles)} tiles")
        progress.note(outcome(tiles))
    slides = len(tiles.dataset.tile_counts()) if isinstance(tiles, DatasetTiles) else 1
    return Summary(
        written=len(todo),
        kept=len(parts) - len(todo),
        empty=slides - len(parts),
        tiles=sum(len(part.tiles) for part in todo),
        dim=loaded.dim,
        seconds=time.perf_counter() - start,
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
    return {name: np.array(values, dtype=h5py.string_dtype()) for name, values in columns.items()}


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
        arrays=lambda: {n: np.array(values, dtype=h5py.string_dtype()) for n, values in strings.items()},
        coords_attributes={},
    )


def _fits(path: Path, part: Part) -> bool:
    """Whether a file is whole and was made from the same things."""
    try:
        with h5py.File(path, "r") as file:
            made = {key: file.attrs.get(key) for key in MADE_FROM}
            return made == part.made and file["features"].shape[0] == len(part.tiles)
    except (OSError, KeyError):  # absent, or not HDF5
        return False


def _write(path: Path, part: Part, features: Features) -> None:
    with atomic.pending(path) as (stream, temporary), h5py.File(stream, "w") as file:
        file.attrs.update(part.made)
        file["features"] = features
        for name, array in part.arrays().items():
            file[name] = array
        if "coords" in file:
            file["coords"].attrs.update(part.coords_attributes)
    atomic.publish(temporary, path)
