"""Features of tiles and results of evaluations, kept in a folder for the next evaluation of the same.

    CACHE/features/<key>.npz    features of M tiles by one network, with what they are, for people
    CACHE/results/<key>.npz     an evaluation's result and the units of its figures

A key is a hash of all that decides what is kept: of features the model's fingerprint, how tiles become
images, and every tile's content in their order; so a folder can be shared by models, data and processes, and
can be emptied at any time. Each file says the hash of what it holds, which is compared: a damaged one is
made again. Files are written whole or not at all, so that a killed evaluation goes on where it was.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.data.whole_tiles import DatasetTiles, Tiles
from pathtrain.evaluate.units import Scored, Units

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
log = logging.getLogger(__name__)

VERSION = 1  # of what is kept: raised when the same key would mean other numbers
FACTS, SUM = "facts", "sha256"  # arrays of a file: JSON as bytes, and the hash of all else


class Cache:
    """A folder of what was computed before.

    Args:
        folder: made if absent.

    Raises:
        UsageError: it is a file, or cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            for name in ("features", "results"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
                atomic.sweep(self.folder / name)  # what killed processes left
        except OSError as error:
            raise UsageError(f"`cache` {folder}: cannot be made a folder ({error.strerror})") from None

    def features(self, key: str) -> tuple[Array, dict[str, Any]] | None:
        """Features (M, D) and their facts; None where there are none, or damaged ones."""
        found = self._read(self.folder / "features" / f"{key}.npz")
        return None if found is None else (found[0]["features"], found[1])

    def keep_features(self, key: str, features: Array, facts: Mapping[str, Any]) -> None:
        """Keep features (M, D), with facts that JSON can write."""
        self._write(self.folder / "features" / f"{key}.npz", {"features": features}, facts)

    def result(self, key: str) -> Scored | None:
        """An evaluation that was made before; None where there is none, or a damaged one."""
        found = self._read(self.folder / "results" / f"{key}.npz")
        if found is None:
            return None
        arrays, facts = found
        units = {
            (row, figure): Units(tuple(groups), arrays[f"sums {number}"], arrays[f"counts {number}"])
            for number, (row, figure, groups) in enumerate(facts["units"])
        }
        return Scored(facts["result"], units)

    def keep_result(self, key: str, scored: Scored) -> None:
        """Keep an evaluation."""
        arrays: Arrays = {}
        for number, units in enumerate(scored.units.values()):
            arrays |= {f"sums {number}": units.sums, f"counts {number}": units.counts}
        named = [[*name, list(units.groups)] for name, units in scored.units.items()]
        facts = {"result": scored.result, "units": named}
        self._write(self.folder / "results" / f"{key}.npz", arrays, facts)

    def _read(self, path: Path) -> tuple[Arrays, dict[str, Any]] | None:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                arrays = {name: held[name] for name in held.files}
            kept = arrays.pop(SUM).tobytes().decode()
            if kept != _sum(arrays):
                raise ValueError("its hash differs")
            facts: dict[str, Any] = json.loads(arrays.pop(FACTS).tobytes())
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged archive raises what zipfile, numpy or json please
            log.warning("%s: damaged (%s): it is made again", path, error)
            return None
        return arrays, facts

    def _write(self, path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """The same bytes for the same content, whenever they are written: numpy's own archives hold the time.

        A member is written at a time, so that features are not held twice.
        """
        whole = {**arrays, FACTS: _bytes(json.dumps(facts).encode())}
        whole[SUM] = _bytes(_sum(whole).encode())
        with atomic.pending(path) as (file, temporary), ZipFile(file, "w") as archive:
            for name in sorted(whole):
                with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(whole[name]), allow_pickle=False)
        atomic.publish(temporary, path)


def _bytes(text: bytes) -> Array:
    return np.frombuffer(text, dtype=np.uint8)


def _sum(arrays: Arrays) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(array.data.cast("B") if array.size else b"")
    return found.hexdigest()


def key(*parts: Any) -> str:
    """40 hex digits of what decides a result: values that JSON can write."""
    text = json.dumps([VERSION, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def content(tiles: Tiles, order: npt.NDArray[np.int64]) -> str:
    """SHA-256 of the tiles in ``order``, as they are stored: of a dataset by the CRC-32 and length of each
    that its index holds, which reading compares; of other tiles by their bytes.

    Raises:
        DatasetError: a file is gone.
    """
    found = hashlib.sha256()
    if isinstance(tiles, DatasetTiles):
        for name in ("crc32", "length"):
            found.update(np.ascontiguousarray(tiles.index.columns[name][order]).astype("<i8").tobytes())
    else:
        for tile in order.tolist():
            found.update(hashlib.sha256(tiles.read(tile)).digest())
    return found.hexdigest()
