"""Folders of features and labels with known answers, in the layout of `pathtrain embed`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

KEY = 6.0  # of the key tile, along the first axis; the rest is standard normal noise


def key_bags(
    count: int, tiles: int = 12, dim: int = 8, seed: int = 0
) -> tuple[list[Floats], list[int | None]]:
    """Bags of noise; every second one holds one key tile, whose row is given, and nothing else decides."""
    rng = np.random.default_rng(seed)
    bags, keys = [], []
    for number in range(count):
        bag = rng.normal(size=(tiles, dim)).astype(np.float32)
        key = int(rng.integers(tiles)) if number % 2 else None
        if key is not None:
            bag[key, 0] = KEY
        bags.append(bag)
        keys.append(key)
    return bags, keys


def write_features(root: Path, bags: Mapping[str, Floats], side: int = 32) -> Path:
    """A file per slide; tiles lie in rows of ten, as toys.write_dataset has them. Vectors get no coords."""
    root.mkdir(parents=True, exist_ok=True)
    for name, features in bags.items():
        with h5py.File(root / f"{name}.h5", "w") as file:
            file["features"] = features
            if features.ndim == 2:
                rows = np.arange(len(features))
                file["coords"] = np.stack([rows % 10, rows // 10], axis=1) * side
                file["coords"].attrs["patch_size_level0"] = side
    return root


def write_labels(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV with the columns of the first row."""
    lines = [",".join(rows[0]), *(",".join(str(row[column]) for column in rows[0]) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path
