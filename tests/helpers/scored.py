"""Files of scores, for tests."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def grid(columns: int, rows: int, side: int, **more: Any) -> list[dict[str, Any]]:
    """A row per tile of a grid from 0, 0, with a score that rises along x and y."""
    return [
        {"x": x * side, "y": y * side, "side": side, "score": (x + y * columns) / (columns * rows), **more}
        for y in range(rows)
        for x in range(columns)
    ]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_csv(path: Path, rows: list[dict[str, Any]], separator: str = ",") -> Path:
    lines = [separator.join(rows[0]), *(separator.join(str(v) for v in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_hdf5(path: Path, coords: Any, attributes: dict[str, Any], **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["coords"] = np.asarray(coords)
        for name, value in attributes.items():
            file["coords"].attrs[name] = value
        for name, value in datasets.items():
            file[name] = np.asarray(value)
    return path
