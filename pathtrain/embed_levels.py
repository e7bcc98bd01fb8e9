"""Features of regions and slides from a hierarchical run, one HDF5 file per slide.

features   (R, D) of the regions, or (1, D) of the slide; float32
coords     (R, 2) level-0 x and y of each region's first cell, or (1, 2) zeros
attributes: level, slide, run, step
"""

import io
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from pathprep import atomic
from pathprep.errors import UsageError
from pathprep.shards import Dataset
from pathtrain import checkpoint
from pathtrain.data.slides import Request, SlideIndex, TileStream
from pathtrain.encode import pick_device
from pathtrain.evaluate.heads import open_run, quiet_stage
from pathtrain.models.layout import Layout

Level = Literal["region", "slide"]


def embed(run: Path, dataset: Path, out: Path, level: Level, device: str = "auto", threads: int = 2) -> int:
    """Write the files; those that are there are made again. Returns how many.

    The student's networks are used, which the run's heads were trained on; regions are those of its last
    phase with slides, or with regions.

    Raises:
        UsageError: the run is of another method.
        CheckpointError, DatasetError: run or dataset cannot be read.
    """
    where = pick_device(device)
    method, recipe = open_run(run, where)
    objectives = [x for p in recipe.hierarchy.phases for x in (p.region, p.slide) if x is not None]
    if not objectives:
        raise UsageError(f"{run}: none of its phases trains on regions or slides")
    side = objectives[-1].side
    step = checkpoint.load(run)["step"]
    data = Dataset(dataset)
    index = SlideIndex(data)
    stage = quiet_stage(data, recipe, run)
    zero = np.zeros(1, np.int64)
    device_id = where.index or 0 if where.type == "cuda" else None
    names = index.tiles.slides
    stream = TileStream(
        index,
        lambda: (Request.of([index.slide(name, side)], zero) for name in names),
        recipe.hierarchy.tile,
        stage,
        device_id,
        threads=threads,
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, stream, strict=True):
        layout = index.slide(name, side)
        _, regions, slide = method.vectors(pixels, layout)
        features = regions if level == "region" else slide[None]
        coords = _corners(index, layout) if level == "region" else np.zeros((1, 2), np.int64)
        file = io.BytesIO()
        with h5py.File(file, "w") as writer:
            writer.create_dataset("features", data=features.cpu().numpy())
            writer.create_dataset("coords", data=coords)
            writer.attrs.update({"level": level, "slide": name, "run": run.resolve().name, "step": step})
        atomic.write_bytes(out / f"{name}.h5", file.getvalue())
    return len(names)


def _corners(index: SlideIndex, layout: Layout) -> np.ndarray:
    """(R, 2) level-0 x and y of the top left cell of each region, from a tile of it."""
    starts = np.cumsum(layout.counts) - layout.counts
    tiles = layout.tiles[starts]  # the first cell of each that holds one
    place = np.stack([index.tiles.columns[key][tiles] for key in ("column", "row")], axis=1).astype(np.int64)
    corner = np.stack([index.tiles.columns[key][tiles] for key in ("x", "y")], axis=1).astype(np.int64)
    # the first tile of a grid lies at 0, 0; the stride is the same along both
    stride = np.divide(corner, place, out=np.zeros(corner.shape), where=place > 0).max()
    return corner - (place % layout.side * round(float(stride))).astype(np.int64)
