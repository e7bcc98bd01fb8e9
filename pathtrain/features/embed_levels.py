"""Features of regions and slides from a hierarchical run, a file per slide (pathtrain.features.files).

features   (R, D) of the regions, or (1, D) of the slide; float32
coords     (R, 2) level-0 x and y of each region's first cell, or (1, 2) zeros
attributes: level, side (cells along a region's side), step, and what else the file was made from
"""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.dataset.marker import FileRecord
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, UsageError
from pathprep.folders import open_dataset
from pathprep.words import command
from pathtrain.data.damaged_tiles import Damage
from pathtrain.data.layout import Layout
from pathtrain.data.slide_stream import Request, SlideIndex, TileStream
from pathtrain.distributed.workers import cores, pick_device
from pathtrain.features.encode import Features
from pathtrain.features.own_names import file_names
from pathtrain.features.part import Part, origin
from pathtrain.features.progress import TileProgress
from pathtrain.features.write import EmbedSummary, make
from pathtrain.params.encoding import Device, Dtype, Format, Level
from pathtrain.runs import checkpoint
from pathtrain.runs.described import recipe_of
from pathtrain.runs.hierarchical import open_run, quiet_stage
from pathtrain.stain.target import of_run


def embed(
    run: Path,
    dataset: Path,
    out: Path,
    level: Level,
    device: Device = "auto",
    threads: int | None = None,
    format: Format = "hdf5",
    dtype: Dtype = "float32",
    replace: bool = False,
) -> EmbedSummary:
    """Write the files; those that were made from the same run and slides are kept.

    The student's networks are used, which the run's heads were trained on; regions are those of its last
    phase with slides, or with regions.

    Raises:
        UsageError: the run is of another method, or an option is wrong.
        CheckpointError, DatasetError: run or dataset cannot be read.
        TrainError: DALI stops; another process stopped.
    """
    where = pick_device(device)
    method, recipe = open_run(run, where)
    objectives = [x for p in recipe.hierarchy.phases for x in (p.region, p.slide) if x is not None]
    if not objectives:
        raise UsageError(f"{run}: none of its phases trains on regions or slides")
    side = objectives[-1].side
    data = open_dataset(dataset)
    index = SlideIndex(data)
    stage = quiet_stage(data, recipe, run)
    device_id = where.index or 0 if where.type == "cuda" else None

    def layout(part: Part) -> Layout:
        return index.slide(part.name, side)

    def features(todo: list[Part], progress: TileProgress) -> Iterator[Features | DatasetError]:
        gone = {part.name: error for part in todo if (error := _gone(data, part))}
        there = [part for part in todo if part.name not in gone]
        # a slide with a damaged tile is read to its end, and then not encoded
        damage = Damage(index.source, recipe.seed, limit=len(index.source))
        stream = iter(
            TileStream(
                index,
                lambda: (Request.of([layout(part)], np.zeros(1, np.int64)) for part in there),
                recipe.hierarchy.tile,
                stage,
                device_id,
                threads=threads or cores(),
                damage=damage,
            )
        )
        for part in todo:
            if part.name in gone:
                yield gone[part.name]
                continue
            pixels = next(stream)
            bad = [found for found in damage.found if found.tile in part.tiles]
            if bad:
                tar = data.root / index.source.place(bad[0].tile).tar
                yield DatasetError(f"{bad[0].name} in {tar}: {bad[0].reason}; {_fix(data)}")
                continue
            _, regions, slide = method.stages.vectors(pixels, layout(part))
            progress.advance(len(part.tiles))
            yield (regions if level == "region" else slide[None]).cpu().numpy()

    made = {**_made(run, level), "side": side, "build_id": data.info["build_id"]}
    if dtype != "float32":
        made["dtype"] = dtype
    parts, called = [], file_names(data, index.tiles.slides)
    for name in index.tiles.slides:
        parts.append(
            Part(
                name=name,
                file=called[name],
                tiles=index.tiles.tiles_of(name),
                made={**made, "slide": name, "source_sha256": _tar(data, name).sha256},
                about={"encoder": run.name, "dtype": dtype},
                arrays=partial(_coords, index, name, side, level),
                coords_attributes=origin(data.marker(name)),
                rows=partial(_rows, index, name, side, level),
            )
        )
    return make(parts, len(data.tile_counts()) - len(parts), out, format, features, replace)


def _made(run: Path, level: Level) -> dict[str, Any]:
    """What of a run the features depend on."""
    entry = checkpoint.latest(run)
    assert entry is not None  # it was opened
    target = of_run(run, recipe_of(run))
    shape = [entry.sha256, entry.config, target and target.changes()]
    fingerprint = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]
    return {"fingerprint": fingerprint, "level": level, "step": entry.step}


def _tar(data: Dataset, slide: str) -> FileRecord:
    return data.marker(slide).files[f"shards/{slide}.tar"]


def _gone(data: Dataset, part: Part) -> DatasetError | None:
    """That a slide has no tar; TileStream could not go on after it."""
    tar = f"shards/{part.name}.tar"
    gone = not data.storage.exists(tar)
    return DatasetError(f"{data.root / tar}: no such file; {_fix(data)}") if gone else None


def _fix(data: Dataset) -> str:
    return f"{command('pathprep repair', data.root)} makes damaged slides again"


def _rows(index: SlideIndex, name: str, side: int, level: Level) -> int:
    return len(index.slide(name, side).counts) if level == "region" else 1


def _coords(index: SlideIndex, name: str, side: int, level: Level) -> dict[str, Any]:
    corners = _corners(index, index.slide(name, side)) if level == "region" else np.zeros((1, 2), np.int64)
    return {"coords": corners}


def _corners(index: SlideIndex, layout: Layout) -> np.ndarray:
    """(R, 2) level-0 x and y of the top left cell of each region, from a tile of it."""
    starts = np.cumsum(layout.counts) - layout.counts
    tiles = layout.tiles[starts]  # the first cell of each that holds one
    place = np.stack([index.tiles.columns[key][tiles] for key in ("column", "row")], axis=1).astype(np.int64)
    corner = np.stack([index.tiles.columns[key][tiles] for key in ("x", "y")], axis=1).astype(np.int64)
    # the first tile of a grid lies at 0, 0; the stride is the same along both
    stride = np.divide(corner, place, out=np.zeros(corner.shape), where=place > 0).max()
    return corner - (place % layout.side * round(float(stride))).astype(np.int64)
