"""Datasets of slides with many regions, and what their tables say, to compare an index of tiles with."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from helpers.markers import slide_marker
from pathprep.dataset import columns
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, STATUSES, VERSION, build_id
from pathprep.dataset.tile_index import TileIndex
from pathprep.dataset.writer import ShardWriter
from pathprep.storage import atomic

PARAMS = {"tile": 64}
BUILD = build_id(PARAMS)
EVERY = list(SCHEMA.names)[: SCHEMA.get_field_index("crc32") + 1]  # the rest is text


def row(rng: np.random.Generator, cell: int, across: int, status: str) -> dict[str, Any]:
    column, line = cell % across, cell // across
    fit = None if status in ("none", "unfitted") else rng.random(8).tolist()
    return {
        "x": 64 * column, "y": 64 * line, "column": column, "row": line,
        "region": line // 3 * 7 + column // 3, "side": 64, "stored": 64, "mpp": 0.5,
        "tissue": rng.random(), "saturation": rng.random(), "white": rng.random(),
        "focus": rng.random(), "stained": rng.random(), "hsv": rng.random(), "pen": rng.random(),
        "stain_status": status,
        "he": fit and fit[:6], "max_c": fit and fit[6:],
        "tissue_pixels": None if status == "none" else int(rng.integers(4096)),
    }  # fmt: skip


def write(root: Path, slide: str, tiles: int, seed: int = 0) -> None:
    """A slide whose tiles lie at random cells, in random order."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    info = {"format": FORMAT, "version": VERSION, "build_id": BUILD, "params": PARAMS}
    atomic.write_json(root / "dataset.json", info)
    rng = np.random.default_rng([seed, *slide.encode()])
    with ShardWriter(root, slide) as writer:
        for cell in rng.permutation(300)[:tiles].tolist():
            writer.add(rng.bytes(20), row(rng, cell, 20, STATUSES[cell % 4]))
        writer.commit(slide_marker(BUILD, slide), {})


def dataset(root: Path, **tiles: int) -> Path:
    for slide, count in tiles.items():
        write(root, slide, count)
    settle(root)
    return root


def settle(root: Path) -> None:
    """As if the markers had been written a while ago."""
    for path in (root / "slides").iterdir():
        state = path.stat()
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 10_000_000_000))


def expected(root: Path) -> tuple[list[str], dict[str, list[Any]]]:
    """Names and values read the plain way: every marker, every table, every row."""
    data = Dataset(root)
    names = [name for name, marker in data.markers.items() if marker.tiles]
    rows = [row for name in names for row in data.table(name).to_pylist()]
    return names, {column: [row[column] for row in rows] for column in EVERY}


def assert_right(root: Path, index: TileIndex) -> None:
    names, values = expected(root)
    assert index.slides == names
    assert len(index) == len(values["x"])
    counts = [Dataset(root).table(name).num_rows for name in names]
    assert np.array_equal(index.starts, np.cumsum([0, *counts]))
    for name, array in index.columns.items():
        assert (array.dtype, array.shape[1:]) == columns.kind(name)
        wanted: Any = values[name]
        if name in ("he", "max_c"):
            wanted = [v or [np.nan] * array.shape[1] for v in wanted]
        elif name == "stain_status":
            wanted = [STATUSES.index(v) for v in wanted]
        elif name == "tissue_pixels":
            wanted = [-1 if v is None else v for v in wanted]
        assert np.array_equal(array, np.array(wanted, array.dtype).reshape(array.shape), equal_nan=True), name


def files(root: Path) -> dict[str, int]:
    """The index' files and their inodes: an inode changes when a file is made again."""
    return {p.relative_to(root).as_posix(): p.stat().st_ino for p in root.rglob("tiles/*/*")}
