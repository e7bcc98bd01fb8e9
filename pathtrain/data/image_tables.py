"""Parquet that holds encoded images in a column, as Hugging Face's data sets do (PathoROB, PLISM).

    image           struct<bytes, path>, or binary: the file as it was, PNG or JPEG
    other columns   texts and numbers: the label, the slide, the centre

A label column that Hugging Face numbered (ClassLabel) is read by its names. Images that are not in the
file, of which it has only the path, are not looked for elsewhere.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.errors import DatasetError, UsageError
from pathprep.storage import cells, tables
from pathtrain.data.whole_tiles import Tiles
from pathtrain.stain.normaliser import normaliser
from pathtrain.stain.target import ModelTarget

LABELS = ("biological_class",)  # PathoROB's, beside those of pathprep.storage.tables
MOST_ROWS = 5_000_000


class ImageTable(Tiles):
    """N images of one or several Parquet files, in the files' order.

    Attributes:
        columns: cells (N) of the other columns, by name.
        labels: (N), empty where unknown; None without a label column.
        grouped: whether there is a column of slides, patients or groups.
    """

    kind = "group"

    def __init__(self, path: Path, target: ModelTarget | None = None) -> None:
        self.path: Path = path
        self._files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        if not self._files:
            raise UsageError(f"{path}: holds no *.parquet")
        self._opened = [_open(file) for file in self._files]
        self._image = _image_column(self._files[0], self._opened[0].schema_arrow)
        first = self._opened[0].schema_arrow
        for file, opened in zip(self._files, self._opened, strict=True):
            if opened.schema_arrow.names != first.names:
                raise UsageError(
                    f"{file}: its columns are not those of {self._files[0]}; give one data set at a time"
                )
        parts = [(number, part) for number, opened in enumerate(self._opened)
                 for part in range(opened.num_row_groups)]  # fmt: skip
        sizes = [self._opened[number].metadata.row_group(part).num_rows for number, part in parts]
        self._parts, self._starts = parts, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        if not 0 < self._starts[-1] <= MOST_ROWS:
            raise UsageError(f"{path}: {self._starts[-1]:,} rows; 1 to {MOST_ROWS:,} can be evaluated")
        self.columns = self._read_columns()
        label = next(
            iter([*tables.named("label", self.columns), *(c for c in LABELS if c in self.columns)]), None
        )
        self.labels = None if label is None else [cells.label(cell) for cell in self.columns[label]]
        owner = next(iter(tables.named("group", self.columns)), None)
        self.grouped = owner is not None
        owners = [
            (cells.known(self.columns[owner][row]) if owner else None) or f"{path}#{row}"
            for row in range(int(self._starts[-1]))
        ]
        names, numbers = np.unique(np.array(owners, dtype=object).astype(str), return_inverse=True)
        self.groups, self.group = names.tolist(), numbers.astype(np.int64)
        self.target, self.normaliser = target, normaliser(target, None)
        self._held: tuple[int, list[Any]] = (-1, [])

    def _read_columns(self) -> dict[str, list[str]]:
        schema = self._opened[0].schema_arrow
        names = [
            field.name for field in schema if field.name != self._image and not pa.types.is_nested(field.type)
        ]
        found: dict[str, list[str]] = {name: [] for name in names}
        numbered = _class_names(schema)
        for opened in self._opened:
            table = opened.read(columns=names)
            for name in names:
                values = table.column(name).to_pylist()
                if name in numbered:
                    values = [_named(numbered[name], value) for value in values]
                found[name] += ["" if value is None else str(value).strip() for value in values]
        return found

    def read(self, tile: int) -> bytes:
        part = int(np.searchsorted(self._starts, tile, side="right") - 1)
        if self._held[0] != part:
            number, group = self._parts[part]
            try:
                read = self._opened[number].read_row_group(group, columns=[self._image])
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{self._files[number]}: {error}; {self.fix}") from None
            self._held = (part, read.column(self._image).to_pylist())
        value = self._held[1][tile - int(self._starts[part])]
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            where = value.get("path") if isinstance(value, dict) else None
            reason = f"only the path of the image is there ({where})" if where else "there is no image"
            raise DatasetError(f"{self.name(tile)}: {reason}; {self.fix}")
        return bytes(data)

    def name(self, tile: int) -> str:
        part = int(np.searchsorted(self._starts, tile, side="right") - 1)
        return f"row {tile} of {self.path} ({self._files[self._parts[part][0]].name})"

    @property
    def fix(self) -> str:
        return "download the file again, with the images embedded"


def is_image_table(path: Path) -> bool:
    """Whether it is a Parquet file, or a folder of such that is neither a dataset nor has a labels.csv."""
    if path.is_file():
        return tables.is_parquet(path)
    own = (path / "dataset.json").exists() or (path / "labels.csv").exists()
    return path.is_dir() and not own and next(path.rglob("*.parquet"), None) is not None


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{file}: cannot be read as Parquet: {error}; download it again") from None


def _image_column(file: Path, schema: pa.Schema) -> str:
    """The column that holds images.

    Raises:
        UsageError: there is none, or more than one.
    """

    def holds(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    found = [field.name for field in schema if holds(field.type)]
    if len(found) != 1:
        raise UsageError(
            f"{file}: {'no column' if not found else ' and '.join(found)} of encoded images (struct with "
            f"bytes, "
            f"or binary), where one is needed; it has {', '.join(schema.names[:20])}"
        )
    return str(found[0])


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the classes that Hugging Face wrote as numbers, by column."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about.get("info", {}).get("features", {})
        return {
            name: list(map(str, each["names"]))
            for name, each in features.items()
            if each.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, KeyError):
        return {}  # somebody else's note: the numbers stay


def _named(names: list[str], value: Any) -> str | None:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
