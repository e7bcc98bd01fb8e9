"""Features on disk, a file per slide: of a dataset, of an image folder, or straight from slides.

The front door. What lies at a source tells what it is:

    a folder with a dataset.json, or a URL of one     a dataset
    a folder with a labels.csv                        an image folder
    anything else: slide files, folders of slides,    slides, as `pathprep shard` takes them; see from_slides
    CSVs with a column slide; one or several

An image folder gives one file, named as the folder. It has no coords: such images have no place on a slide;
imported tiles (`pathprep import-tiles`) give the same, a file per shard. An image that cannot be used has no
row.

A file that was made from the same model, tar, size and precision is kept; see pathtrain.features.write.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pathprep.dataset.marker import SlideMarker
from pathprep.errors import DatasetError, UsageError
from pathprep.params.running import AnyPath, listed
from pathprep.params.settings import build, flat
from pathprep.storage.place import local_folder
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, open_tiles, outcome
from pathtrain.features import embed_levels, from_slides
from pathtrain.features.encode import Features, encode
from pathtrain.features.facts import described, made_from, seen
from pathtrain.features.fitting import check_tiles
from pathtrain.features.own_names import file_names
from pathtrain.features.part import Arrays, Part, origin
from pathtrain.features.progress import TileProgress
from pathtrain.features.slides_account import SlidesSummary
from pathtrain.features.sources import are_slides
from pathtrain.features.write import EmbedSummary, check_format, make
from pathtrain.params.encoding import Dtype, Format, How, Level
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.runs.opening import opened


def embed(
    model: Model,
    source: AnyPath | Iterable[AnyPath],
    out: str | Path = "features",
    *,
    format: Format = "hdf5",
    dtype: Dtype = "float32",
    level: Level = "tile",
    seed: int = 1,
    replace: bool = False,
    **settings: Any,
) -> EmbedSummary | SlidesSummary:
    """Write the features of every tile of a dataset, an image folder or slides: a file per slide.

    Run again, it goes on where it stopped. Under torchrun each process makes its own files.

    Args:
        model: an encoder, or its run, exported folder or public name (pathtrain.runs.opening).
        source: a dataset; a folder of images with a labels.csv; or slides: files, folders, or CSVs with a
            column slide, one or several, as ``pathprep.shard`` takes them.
        out: created; files in it that fit are kept, others of the same name are replaced.
        format: ``hdf5``, as CLAM and TRIDENT read it, ``parquet``, ``anndata`` (.h5ad) or ``zarr``.
        dtype: of the features in the files: ``float32``, ``float16``, or ``bfloat16`` (hdf5 only).
        level: ``tile``; of runs with three stages also ``region`` or ``slide``.
        seed: of random weights; not the run's own, if it began with random weights.
        replace: remove features of other models that ``out`` holds, instead of refusing.
        settings: of How, by their flat names: ``device="cuda", readout="mean", weights=FILE``; of
            regions and slides ``device`` and ``threads`` only. With slides also those of ``pathprep.shard``
            and of ``embed_slides``: ``mpp=0.5, min_tissue=0.3, workers=16``.

    Returns:
        Counts, and the slides that failed with their reasons.

    Raises:
        UsageError: a setting is wrong, or does not go with the level or the source; ``out`` holds features of
            another model.
        ModelError, CheckpointError, DatasetError: the model, its start or the dataset cannot be read.
        PeerError: another process stopped.
    """
    sources, out = listed(source), local_folder(out)
    check_format(format, dtype)
    if level not in get_args(Level):
        raise UsageError(f"`level` is {level!r}; give tile, region or slide")
    if are_slides(sources):
        if level != "tile":
            raise UsageError(f"`level` {level}: regions and slides are made from a dataset; give one")
        known = flat(How)
        how = build(How, {name: value for name, value in settings.items() if name in known})
        from_slides.begin()  # what reads slides loads while the model does
        loaded = opened(model, how.weights, how.readout, seed)
        more = {name: value for name, value in settings.items() if name not in known}
        return from_slides.embed_slides(
            loaded, sources, out, how, format=format, dtype=dtype, replace=replace, **more
        )
    for name in settings.keys() - flat(How).keys():
        if name in from_slides.OPTIONS:
            raise UsageError(f"`{name}` goes with slides, and {sources[0]} is no slide: leave it out")
    return _embed_stored(model, Path(sources[0]), out, format, dtype, level, seed, replace, settings)


def _embed_stored(
    model: Model,
    source: Path,
    out: Path,
    format: Format,
    dtype: Dtype,
    level: Level,
    seed: int,
    replace: bool,
    settings: dict[str, Any],
) -> EmbedSummary:
    """Of a dataset, or an image folder."""
    how = build(How, settings)
    if level != "tile":
        if extra := settings.keys() - {"device", "threads"}:  # the run has its own
            raise UsageError(f"`{min(extra)}` is for `level` tile: leave it out with `level` {level}")
        return embed_levels.embed(
            _run_of(model), source, out, level, how.device, how.threads, format, dtype, replace
        )
    loaded = opened(model, how.weights, how.readout, seed)
    tiles = open_tiles(source, loaded.target)
    made, about = made_from(loaded, how, dtype), described(loaded, dtype)
    check_tiles(loaded, tiles, how)

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
        parts = _of_dataset(tiles, made, about, partial(seen, loaded, how))
        return make(parts, len(tiles.dataset.tile_counts()) - len(parts), out, format, features, replace)
    return make([_of_folder(tiles, made, about)], 0, out, format, features, replace)


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


def _of_dataset(
    tiles: DatasetTiles, made: dict[str, Any], about: dict[str, Any], mpp: Callable[[float], float]
) -> list[Part]:
    params, parts = tiles.dataset.params, []
    called = file_names(tiles.dataset, tiles.slides)
    for number, slide in enumerate(tiles.slides):
        start, end = int(tiles.starts[number]), int(tiles.starts[number + 1])
        marker = tiles.dataset.marker(slide)
        attributes: dict[str, Any] = {}
        at = None
        if isinstance(marker, SlideMarker):
            at = mpp(marker.mpp * int(tiles.index.columns["side"][start]))
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
                about={**about, "mpp": at} if at else about,
                columns=partial(_columns, tiles, slice(start, end)) if attributes else dict,
            )
        )
    return parts


def _coords(tiles: DatasetTiles, part: slice) -> Arrays:
    return {"coords": tiles.places(part)}


def _columns(tiles: DatasetTiles, part: slice) -> Arrays:
    """What AnnData says of a slide's tiles beside their place."""
    return {"side": tiles.index.columns["side"][part]}


def _strings(tiles: DatasetTiles, part: slice) -> Arrays:
    """What imported tiles have instead of coordinates."""
    columns = {
        "files": tiles.sources[part],
        "labels": (tiles.labels or [])[part],
        "groups": [tiles.groups[number] for number in tiles.group[part]],
    }
    return _objects(columns)


def _objects(columns: dict[str, list[str]]) -> Arrays:
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


def _of_folder(tiles: FolderTiles, made: dict[str, Any], about: dict[str, Any]) -> Part:
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

    def arrays() -> Arrays:
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
        about=about,
    )
