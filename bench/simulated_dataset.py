"""Datasets for bench_index: one of real tables, and one that is only markers and an index, at any scale."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset import columns, index_cache
from pathprep.dataset.columns import Arrays
from pathprep.dataset.listing import SETTLED_S, Entry
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, STATUSES, VERSION, build_id, sha256
from pathprep.storage import atomic
from pathprep.storage.seals import sealed

LOADER = ["x", "y", "offset", "length", "crc32"]  # what training reads
COLUMNS = [*LOADER, "region", "column", "row"]
SIDE, PER_REGION = 512, 16
BUILD = build_id({})


def counts(tiles: int, slides: int) -> npt.NDArray[np.int64]:
    """Tiles of each slide, as uneven as those of real slides, with this sum."""
    share = np.random.default_rng(0).lognormal(0, 0.7, slides)
    ends = np.round(np.cumsum(share) / share.sum() * tiles).astype(np.int64)
    return np.diff(ends, prepend=0)


def slide(number: int, tiles: int, names: list[str]) -> Arrays:
    """Columns of a slide whose tissue is a disc, in blocks of tiles as sharding writes them."""
    rng = np.random.default_rng(number)
    across = int(np.ceil(np.sqrt(tiles / 0.7))) + 2
    cells = np.arange(across) - across / 2
    distance = (cells[:, None] ** 2 + cells[None, :] ** 2).ravel()
    taken = np.argpartition(distance, tiles - 1)[:tiles] if tiles else np.empty(0, np.int64)
    row, column = np.divmod(taken, across)
    order = np.argsort((row // 4 * across + column // 4) * 16 + row % 4 * 4 + column % 4)
    row, column = row[order], column[order]
    length = rng.integers(20_000, 60_000, tiles)
    regions = -(-across // PER_REGION)
    made = {
        "x": column * SIDE,
        "y": row * SIDE,
        "column": column,
        "row": row,
        "region": row // PER_REGION * regions + column // PER_REGION,
        "side": np.full(tiles, SIDE),
        "stored": np.full(tiles, SIDE),
        "mpp": np.full(tiles, 0.25),
        "stain_status": np.zeros(tiles),
        "tissue_pixels": rng.integers(0, SIDE**2, tiles),
        "offset": np.cumsum(length + 1024) - length,
        "length": length,
        "crc32": rng.integers(0, 2**32, tiles),
    }
    for name in names:
        dtype, shape = columns.kind(name)
        made[name] = (made[name] if name in made else rng.random((tiles, *shape))).astype(dtype)
    return {name: made[name] for name in names}


def marker(name: str, tiles: int, size: int, sha256: str) -> dict[str, Any]:
    """As much as sharding writes."""
    digest = "0" * 64
    files = {
        f"{folder}/{name}.{suffix}": {"size": 10**9, "sha256": digest}
        for folder, suffix in (
            ("shards", "tar"),
            ("shards", "idx"),
            ("previews", "jpg"),
            ("previews", "geojson"),
        )
    }
    values = {
        "slide": name,
        "build_id": BUILD,
        "tiles": tiles,
        "files": {**files, f"index/{name}.parquet": {"size": size, "sha256": sha256}},
        "source": {"path": f"/archive/of/slides/{name}.svs", "size": 10**9, "mtime": 1.7e9},
        "inputs": {"size": 10**9, "mtime": 1.7e9, "mpp": None, "mask": None},
        "reader": "cucim",
        "vendor": "aperio",
        "mpp": 0.25,
        "mpp_source": "file",
        "width": 60_000,
        "height": 60_000,
        "grid": {
            "columns": 300,
            "rows": 300,
            "side": SIDE,
            "stride": SIDE,
            "stored": SIDE,
            "level": 0,
            "per_region": 16,
        },
        "counts": {"kept": tiles, "little_tissue": 1000, "no_tissue": 10_000, "over_max_tiles": 0},
        "stain": {"fitted": tiles},
        "stain_fit": {"he": [0.65, 0.25, 0.7, 0.85, 0.3, 0.46], "max_c": [1.5, 1.0]},
        "seconds": dict.fromkeys(("tissue", "read", "cut", "stain", "encode", "write", "total"), 12.345678),
    }
    return sealed(values)


def start(root: Path) -> None:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    info = {"format": FORMAT, "version": VERSION, "build_id": BUILD, "params": {}}
    atomic.write_json(root / "dataset.json", info)


def simulate(root: Path, tiles: int, slides: int) -> dict[str, float]:
    """A dataset's markers and its index; seconds of both."""
    start(root)
    begin = time.perf_counter()
    each = counts(tiles, slides)
    for number, count in enumerate(each.tolist()):
        name = f"TCGA-XX-{number:05d}-01Z-00-DX1"
        text = json.dumps(marker(name, count, 500_000, f"{number:064x}"), indent=1, sort_keys=True)
        (root / "slides" / f"{name}.json").write_text(text)
    marked = time.perf_counter()
    time.sleep(SETTLED_S + 0.1)

    def generated(_: Dataset, found: list[Entry], names: list[str]) -> Iterator[Arrays]:
        for number, entry in enumerate(found):
            if entry.tiles:
                yield slide(number, entry.tiles, names)

    read, index_cache.tables = index_cache.tables, generated
    built = time.perf_counter()
    Dataset(root).tiles(COLUMNS)
    index_cache.tables = read
    return {"markers": marked - begin, "index": time.perf_counter() - built}


def tabulate(root: Path, tiles: int, slides: int) -> None:
    """A dataset's real tables, every column of the schema, and its markers."""
    start(root)
    for number, count in enumerate(counts(tiles, slides).tolist()):
        name, path = f"s{number:05d}", root / "index" / f"s{number:05d}.parquet"
        made = slide(number, count, SCHEMA.names[: SCHEMA.get_field_index("crc32") + 1])
        made["stain_status"] = np.array(STATUSES)[made["stain_status"]]
        arrays = []
        for field in SCHEMA:
            if field.name not in made:  # only imported tiles have it
                arrays.append(pa.nulls(count, field.type))
                continue
            values: Any = pa.array(made[field.name].ravel())
            if pa.types.is_fixed_size_list(field.type):
                arrays.append(pa.FixedSizeListArray.from_arrays(values, field.type.list_size))
            else:
                arrays.append(values.cast(field.type))
        pq.write_table(pa.table(arrays, SCHEMA), path, compression="zstd")
        about = marker(name, count, path.stat().st_size, sha256(path))
        atomic.write_json(root / "slides" / f"{name}.json", about)
    time.sleep(SETTLED_S + 0.1)
