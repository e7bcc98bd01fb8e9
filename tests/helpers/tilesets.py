"""Made-up tile sets in the layouts in which PCam, NCT-CRC-HE-100K and MHIST are published."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import webdataset as wds
from PIL import Image

from helpers.slides import tissue
from pathprep.dataset.reader import Dataset
from pathprep.folders import verify
from pathprep.images import jpeg
from pathprep.params.tile_set import TileParams
from pathprep.sharding.summary import RunSummary
from pathprep.tilesets import run
from pathprep.tilesets.find import find

Pixels = npt.NDArray[np.uint8]


def tile(seed: int, side: int = 32) -> Pixels:
    """Two stains; no two seeds alike."""
    return tissue(side, side, seed=seed)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def pcam(
    folder: Path, split: str, labels: Sequence[int], groups: Sequence[str] | None = None, seed: int = 0
) -> list[Pixels]:
    """HDF5 files of PCam, a row a chunk, with checksums so that damage is noticed; returns the images."""
    folder.mkdir(exist_ok=True)
    stem = f"camelyonpatch_level_2_split_{split}"
    images = [tile(seed + number) for number in range(len(labels))]
    with h5py.File(folder / f"{stem}_x.h5", "w") as file:
        file.create_dataset("x", data=np.stack(images), chunks=(1, 32, 32, 3), fletcher32=True)
    with h5py.File(folder / f"{stem}_y.h5", "w") as file:
        file["y"] = np.array(labels, np.uint8).reshape(-1, 1, 1, 1)
    if groups is not None:
        rows = [
            (row, 10 * row, 20 * row, bool(label), bool(label), group)
            for row, (label, group) in enumerate(zip(labels, groups, strict=True))
        ]
        header = ("", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
        write_csv(folder / f"{stem}_meta.csv", header, rows)
    return images


def folders(root: Path, files: Mapping[str, Pixels]) -> Path:
    """Images by their paths in a set; the suffix says the format."""
    for name, pixels in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


def mhist(root: Path) -> Path:
    """annotations.csv beside a folder of PNGs, of 64 px."""
    names = [f"MHIST_{letter}.png" for letter in "abcdef"]
    folders(root, {f"images/{name}": tile(number, 64) for number, name in enumerate(names)})
    header = (
        "Image Name",
        "Majority Vote Label",
        "Number of Annotators who Selected SSA (Out of 7)",
        "Partition",
    )
    rows = [
        (name, "SSA" if number % 2 else "HP", number, "test" if number > 3 else "train")
        for number, name in enumerate(names)
    ]
    write_csv(root / "annotations.csv", header, rows)
    return root


def importing(source: Path, root: Path, *, tiles_per_shard: int = 4, **options: Any) -> RunSummary:
    of_set = {key: options.pop(key) for key in ("format", "labels", "columns", "split") if key in options}
    of_run = {
        key: options.pop(key)
        for key in ("name", "workers", "rebuild", "launcher", "part", "min_free", "timeout")
        if key in options
    }
    params = TileParams(tiles_per_shard=tiles_per_shard, **options)
    return run.import_tiles(find(source, **of_set), root, params, **of_run)


def rows_of(root: Path) -> dict[str, dict[str, Any]]:
    """Every tile's row by its source, with its shard, and its bytes as webdataset reads them."""
    found: dict[str, dict[str, Any]] = {}
    dataset = Dataset(root)
    for name, marker in dataset.markers.items():
        rows = dataset.table(name).to_pylist()
        if not marker.tiles:
            continue
        tar = wds.WebDataset(str(root / "shards" / f"{name}.tar"), shardshuffle=False)
        for row, sample in zip(rows, tar, strict=True):
            assert sample["__key__"] == f"{name}__{row['x']}_{row['y']}"
            assert row["source"] not in found
            found[row["source"]] = {**row, "shard": name, "jpg": sample["jpg"]}
    return found


def sound(root: Path) -> bool:
    return not any(found.problems or found.tiles for found in verify(root))


def stored(pixels: np.ndarray) -> bytes:
    return jpeg.encode(pixels, 95, "444")


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()
