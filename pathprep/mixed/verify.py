"""Checks mixed shards to the byte: files against mixed.json, index against tar, every tile's CRC."""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset.schema import build_id, sha256
from pathprep.dataset.verify import Findings
from pathprep.mixed import format as mixed
from pathprep.mixed.format import BLOCK, Skeleton
from pathprep.storage import atomic


def verify(root: Path, threads: int = 2) -> Iterator[Findings]:
    """Check every shard, then the folder for files that belong to none.

    Yields:
        Findings per shard, in their order; last those of the folder, named ``(folder)``.

    Raises:
        DatasetError: no mixed shards, or not finished.
    """
    info = mixed.read_info(root)
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda marker: _check_shard(root, marker, info["components"]), info["shards"])
    yield _check_folder(root, info)


def _check_shard(root: Path, marker: dict[str, Any], components: Sequence[str]) -> Findings:
    found = Findings(marker["shard"])
    for name, entry in marker["files"].items():
        path = root / name
        if not path.is_file():
            found.problems.append(f"{name}: no such file")
        elif path.stat().st_size != entry["size"]:
            found.problems.append(f"{name}: {path.stat().st_size} bytes, {entry['size']} were written")
        elif sha256(path) != entry["sha256"]:
            found.problems.append(f"{name}: its bytes have changed since it was written (SHA-256)")
    tar, idx, index = (root / name for name in mixed.files(marker["shard"]))
    try:
        rows = pq.read_table(index, schema=mixed.schema(components))
        skeleton = Skeleton(rows, components)
    except (OSError, pa.ArrowException, ValueError, IndexError) as error:
        found.problems.append(f"index/{index.name}: cannot be read ({error}); tiles were not checked")
        return found
    if len(rows) != marker["tiles"]:
        found.problems.append(f"index/{index.name}: {len(rows)} rows, {mixed.INFO} counts {marker['tiles']}")
    if not np.array_equal(rows["offset"].to_numpy(), skeleton.offsets[:, 0]):
        found.problems.append(f"index/{index.name}: its offsets do not follow from its lengths")
    if idx.is_file() and idx.read_bytes() != skeleton.dali_index():
        found.problems.append(f"shards/{idx.name}: differs from the index of tiles")
    if tar.is_file():
        _check_tar(tar, rows["crc32"].to_pylist(), skeleton, found)
    return found


def _check_tar(path: Path, sums: list[int], skeleton: Skeleton, found: Findings) -> None:
    """Name each sample with another header, JPEG, fit or label than the index says."""
    size = path.stat().st_size
    stored: mixed.Bytes = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
    data = stored[: skeleton.total]
    if size < skeleton.total:  # what is cut off reads as zeros
        data = np.concatenate([data, np.zeros(skeleton.total - size, np.uint8)])
    samples, components = np.nonzero(skeleton.present)
    headers = data.reshape(-1, BLOCK)[skeleton.offsets[skeleton.present] // BLOCK - 1]
    wrong = (headers != skeleton.headers).any(axis=1)
    absent = zip(samples[wrong].tolist(), components[wrong].tolist(), strict=True)
    bad = dict.fromkeys(absent, "the tar holds no such member there")
    for sample, crc in enumerate(sums):
        found.checked += 1
        start, length = skeleton.offsets[sample, 0], skeleton.lengths[sample, 0]
        if zlib.crc32(data[start : start + length].data) != crc:
            bad.setdefault((sample, 0), "damaged (CRC-32 differs from the index)")
    for numbers, component, expected in skeleton.small():
        at = skeleton.offsets[numbers, component][:, None] + np.arange(expected.shape[1])
        for sample in numbers[(data[at] != expected).any(axis=1)].tolist():
            bad.setdefault((sample, component), "differs from the index")
    for (sample, component), problem in sorted(bad.items()):
        name = f"{skeleton.keys[sample]}.{skeleton.components[component]}"
        found.tiles.append(f"{name}: {problem} (byte {skeleton.offsets[sample, component]})")


def _check_folder(root: Path, info: dict[str, Any]) -> Findings:
    found = Findings("(folder)")
    if build_id(info["plan"]) != info["mix_id"]:
        found.problems.append(f"{mixed.INFO}: was changed since it was written (mix_id)")
    total = sum(marker["tiles"] for marker in info["shards"])
    if not total == info["tiles"] == sum(source["tiles"] for source in info["sources"]):
        found.problems.append(f"{mixed.INFO}: its shards hold {total} tiles, it counts {info['tiles']}")
    owned = {name for marker in info["shards"] for name in marker["files"]}
    for folder in mixed.FOLDERS:
        for path in sorted((root / folder).glob("*")):
            name = f"{folder}/{path.name}"
            if name in owned:
                continue
            if path.name.startswith(atomic.PREFIX) or folder == "unfinished":
                found.problems.append(f"{name}: of a killed run; the same `pathprep mix` removes it")
            else:
                found.problems.append(f"{name}: belongs to no shard of {mixed.INFO}; delete it")
    return found
