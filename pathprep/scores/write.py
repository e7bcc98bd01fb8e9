"""Writing a file of scores, as pathprep.scores.read has it: Parquet or CSV, atomically."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.errors import UsageError, cannot_write
from pathprep.storage import atomic
from pathprep.storage.tables import is_parquet


@dataclass(frozen=True)
class Tiles:
    """Scores of one slide's tiles.

    Attributes:
        slide: its own name.
        coords: (N, 2) x, y, level-0 pixels. side: of all tiles, level-0 pixels.
        columns: (N,) by name: numbers, NaN where there is none; or names of classes.
    """

    slide: str
    coords: npt.NDArray[np.int64]
    side: int
    columns: Mapping[str, npt.NDArray[np.floating[Any]] | Sequence[str]]


def check_name(path: Path) -> None:
    """Refuse a file of another kind, before anything is computed.

    Raises:
        UsageError: it is called neither .parquet nor .csv.
    """
    if not is_parquet(path) and path.suffix.lower() != ".csv":
        raise UsageError(f"{path}: scores are written as Parquet or CSV; end its name in .parquet or .csv")


def write_scores(path: Path, slides: Iterable[Tiles]) -> int:
    """Write scores; returns the number of rows.

    Args:
        slides: all with the same columns.

    Raises:
        UsageError: another ending than .parquet or .csv, or it cannot be written.
    """
    check_name(path)
    table = pa.concat_tables([_table(each) for each in slides])
    data = io.BytesIO()
    if is_parquet(path):
        pq.write_table(table, data)
    else:
        text = io.TextIOWrapper(data, "utf-8", newline="", write_through=True)
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(table.column_names)
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            rows.writerow(["" if cell is None or cell != cell else cell for cell in row])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_alone(path, data.getbuffer())
    except OSError as error:
        raise UsageError(cannot_write(path, error)) from None
    return int(table.num_rows)


def _table(tiles: Tiles) -> pa.Table:
    count = len(tiles.coords)
    columns: dict[str, Any] = {
        "slide": pa.array([tiles.slide] * count, pa.string()),
        "x": pa.array(tiles.coords[:, 0], pa.int64()),
        "y": pa.array(tiles.coords[:, 1], pa.int64()),
        "side": pa.array(np.full(count, tiles.side), pa.int64()),
    }
    for name, values in tiles.columns.items():
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            columns[name] = pa.array(values.astype(np.float32))
        else:
            columns[name] = pa.array(list(values), pa.string())
    return pa.table(columns)
