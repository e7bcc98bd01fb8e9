"""Checks mixed shards to the byte: files against mixed.json, index against tar, every tile's CRC."""

import zlib
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from pathprep.dataset.marker import FileRecord
from pathprep.dataset.schema import SUFFIXES
from pathprep.dataset.verify import Findings, check_files, read_rows, told
from pathprep.mixed import format as mixed
from pathprep.mixed.format import BLOCK, Skeleton
from pathprep.storage import atomic
from pathprep.storage.base import Storage
from pathprep.storage.place import storage_at
from pathprep.words import counted


def verify(root: PurePath | str, threads: int = 2) -> Iterator[Findings]:
    """Check every shard, then the folder for files that belong to none.

    Yields:
        Findings per shard, in their order; last those of the folder, named ``(folder)``.

    Raises:
        DatasetError: no mixed shards, or not finished.
    """
    storage = storage_at(root)
    info = mixed.read_info(storage)
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda marker: _check_shard(storage, marker, info["components"]), info["shards"])
    yield _check_folder(storage, info)


def _check_shard(storage: Storage, marker: dict[str, Any], components: Sequence[str]) -> Findings:
    files = {name: FileRecord(**entry) for name, entry in marker["files"].items()}
    found = Findings(marker["shard"], check_files(storage, files))
    tar, idx, index = mixed.files(marker["shard"])
    with told(found, index, "; tiles were not checked"):
        rows = read_rows(storage, index, mixed.schema(components), mixed.FILLED)
        skeleton = Skeleton(rows, components)
        if len(rows) != marker["tiles"]:
            found.problems.append(
                f"{index}: {counted(len(rows), 'row')}, {mixed.INFO} counts {marker['tiles']}"
            )
        if not np.array_equal(rows["offset"].to_numpy(), skeleton.offsets[:, 0]):
            found.problems.append(f"{index}: its offsets do not follow from its lengths")
        with told(found, idx):
            # if it is absent, its size has told
            if storage.read(idx) not in (None, skeleton.dali_index()):
                found.problems.append(f"{idx}: differs from the index of tiles")
        # a map of a file that cannot be read would kill the process, and its hash has told
        if storage.size(tar) >= 0 and not any(
            line.startswith(f"{tar}: cannot be read") for line in found.problems
        ):
            with told(found, tar):
                _check_tar(_stored(storage, tar), rows["crc32"].to_pylist(), skeleton, found)
    return found


def _stored(storage: Storage, tar: str) -> mixed.Bytes:
    """A tar's bytes; mapped, if it is on a local disk."""
    if not isinstance(storage.root, Path):
        return np.frombuffer(storage.read(tar) or b"", np.uint8)
    path = storage.root / tar
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)


def _check_tar(stored: mixed.Bytes, sums: list[int], skeleton: Skeleton, found: Findings) -> None:
    """Name each sample with another header, JPEG, fit or label than the index says."""
    size, data = len(stored), stored[: skeleton.total]
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


def _check_folder(storage: Storage, info: dict[str, Any]) -> Findings:
    found = Findings("(folder)")
    total = sum(marker["tiles"] for marker in info["shards"])
    if not total == info["tiles"] == sum(source["tiles"] for source in info["sources"]):
        found.problems.append(
            f"{mixed.INFO}: its shards hold {counted(total, 'tile')}, it counts {info['tiles']}"
        )
    owned = {name for marker in info["shards"] for name in marker["files"]}
    for folder in mixed.FOLDERS:
        with told(found, folder):
            _tell_strangers(storage, folder, owned, found)
    return found


def _tell_strangers(storage: Storage, folder: str, owned: Container[str], found: Findings) -> None:
    """A line per file that is no shard's: a fault if a reader would take it for one's."""
    for file in storage.listing(folder):
        if file.name in owned:
            continue
        if file.last.startswith(atomic.PREFIX) or folder == "unfinished":
            found.problems.append(f"{file.name}: of a killed run; the same `pathprep mix` removes it")
        elif file.last.rpartition(".")[2] not in SUFFIXES[folder]:
            found.notes.append(f"{file.name}: not of pathprep; left as it is")
        else:
            found.problems.append(f"{file.name}: belongs to no shard of {mixed.INFO}; delete it")
