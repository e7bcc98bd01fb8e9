"""HEST-Benchmark's layout: a folder per task.

TASK/patches/<sample>.h5    img (N, 224, 224, 3) uint8, barcode (N, 1), coords (N, 2)
TASK/adata/<sample>.h5ad    counts, a row per barcode
TASK/splits/train_0.csv     sample_id, patches_path, expr_path; test_0.csv, train_1.csv, ...
TASK/var_50genes.json       {"genes": [...]}
"""

import re
from pathlib import Path

import h5py
import numpy as np

from pathprep.errors import DatasetError, UsageError
from pathprep.storage import tables
from pathtrain.evaluate.expression.h5ad import AGAIN, Counts, hdf5, names
from pathtrain.evaluate.expression.spots import MPP, SIDE, Section
from pathtrain.evaluate.statistics import Ints
from pathtrain.images import Pixels

BLOCK = 64  # tiles read at a time: HEST writes them one by one into chunks of several
PATCHES, EXPRESSION, SPLITS = "patches", "adata", "splits"
GENES = "var_50genes.json"
_SPLIT = re.compile(r"(train|test)_(\d+)\.csv")


def is_task(path: Path) -> bool:
    """Whether a folder is a task."""
    return (path / PATCHES).is_dir()


def task_folders(path: Path) -> list[Path]:
    """The folder, if it is a task, or the tasks in it; none if it is neither."""
    if is_task(path):
        return [path]
    return sorted(each for each in path.iterdir() if each.is_dir() and is_task(each))


class HestSection(Section):
    """A sample: its tiles stay in the file until they are asked for.

    Args:
        path: of the tiles. patient: whose it is, "" if unknown. known: names of the spots with counts.

    Raises:
        DatasetError: it cannot be read, is of another layout, or shares no spot with its counts.
    """

    def __init__(self, name: str, path: Path, patient: str, counts: Counts) -> None:
        self.name, self.source, self.patient = name, path, patient
        with hdf5(path, "HEST's tiles (HDF5)") as file:
            missing = [key for key in ("img", "barcode", "coords") if key not in file]
            if missing:
                raise DatasetError(
                    f"{path}: has no {' and no '.join(missing)}; HEST's files of tiles have img, barcode and "
                    f"coords, this has {', '.join(sorted(file)) or 'nothing'}"
                )
            shape = file["img"].shape
            if shape[1:] != (SIDE, SIDE, 3) or file["img"].dtype != np.uint8:
                raise DatasetError(
                    f"{path}: img is {file['img'].dtype} {shape}; HEST-Benchmark has uint8 (N, {SIDE}, "
                    f"{SIDE}, 3), 112 um at {MPP} MPP: cut its tiles again"
                )
            spots = names(file["barcode"][()]).tolist()
            places = np.asarray(file["coords"][()], dtype=np.float64)
            self.um = _um(path, file["coords"])
        if len(spots) != shape[0] or places.shape != (shape[0], 2):
            raise DatasetError(
                f"{path}: {shape[0]} tiles, {len(spots)} barcodes, coords {places.shape}; {AGAIN}"
            )
        if len(set(spots)) < len(spots):
            raise DatasetError(f"{path}: a barcode is there twice; keep one tile of each")
        known = set(counts.spots.tolist())
        kept = [number for number, spot in enumerate(spots) if spot in known]
        if not kept:
            raise DatasetError(
                f"{path}: no spot in common with {counts.path}; barcodes here are like "
                f"{', '.join(spots[:2])}, there like {', '.join(counts.spots[:2].tolist())}: name them alike"
            )
        self._rows: Ints = np.array(kept, dtype=np.int64)
        self.spots = [spots[row] for row in kept]
        self.places = places[kept]
        self.left_out = {"no counts": len(spots) - len(kept)}
        self._block: Pixels = np.empty((0, SIDE, SIDE, 3), np.uint8)
        self._first = 0

    def tile(self, spot: int) -> Pixels:
        row = int(self._rows[spot])
        if not self._first <= row < self._first + len(self._block):
            with hdf5(self.source, "HEST's tiles (HDF5)") as file:
                self._first = row
                self._block = file["img"][row : row + BLOCK]
        tile: Pixels = self._block[row - self._first]
        return tile

    def close(self) -> None:
        self._block = self._block[:0].copy()


def _um(path: Path, coords: h5py.Dataset) -> float | None:
    """Micrometres a pixel of ``coords``, if the file says it.

    Raises:
        DatasetError: it says that its tiles are of another MPP than the benchmark's.
    """
    pixel, reduction = (coords.attrs.get(key) for key in ("pixel_size", "downsample"))
    if pixel is None or reduction is None:
        return None
    mpp = float(np.ravel(pixel)[0]) * float(np.ravel(reduction)[0])
    if abs(mpp / MPP - 1) > 0.1:
        raise DatasetError(
            f"{path}: its tiles are at {mpp:.3g} MPP, HEST-Benchmark's at {MPP}: cut them again at that"
        )
    return float(np.ravel(pixel)[0])


def samples(task: Path) -> dict[str, tuple[Path, Path]]:
    """Sample -> its files of tiles and of counts: those of the splits; without splits those in the folders.

    Raises:
        DatasetError: there is none, or a file is missing. UsageError: a split cannot be read.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for path in sorted((task / SPLITS).glob("*.csv")):
        table = tables.read(path, ("sample_id", "patches_path", "expr_path"))
        for row in table.rows():
            found[row["sample_id"]] = task / row["patches_path"], task / row["expr_path"]
    if not found:
        found = {
            path.stem: (path, task / EXPRESSION / f"{path.stem}.h5ad")
            for path in sorted((task / PATCHES).glob("*.h5"))
        }
    if not found:
        raise DatasetError(f"{task / PATCHES}: holds no .h5 file; download the task again")
    for tiles, counts in found.values():
        for path in (tiles, counts):
            if not path.is_file():
                raise DatasetError(
                    f"{path}: not there; download the task again, or take it out of the splits"
                )
    return dict(sorted(found.items()))


def splits(task: Path) -> list[tuple[str, list[str], list[str]]]:
    """The published splits: number, training and test samples; none where there is no such folder.

    Raises:
        UsageError: one half is missing, or a sample is on both sides.
    """
    halves: dict[int, dict[str, Path]] = {}
    for path in sorted((task / SPLITS).glob("*.csv")):
        match = _SPLIT.fullmatch(path.name)
        if match is None:
            raise UsageError(f"{path}: no split; they are named train_0.csv, test_0.csv, train_1.csv, ...")
        halves.setdefault(int(match[2]), {})[match[1]] = path
    found = []
    for number, parts in sorted(halves.items()):
        for half in ("train", "test"):
            if half not in parts:
                path = task / SPLITS / f"{half}_{number}.csv"
                raise UsageError(f"{path}: not there, but its other half is; download the task again")
        train, test = (
            tables.read(parts[half], ("sample_id",)).columns["sample_id"] for half in ("train", "test")
        )
        both = sorted(set(train) & set(test))
        if both:
            raise UsageError(
                f"{parts['test']}: sample {both[0]} is in {parts['train'].name} as well; keep it on one side"
            )
        found.append((str(number), train, test))
    return found
