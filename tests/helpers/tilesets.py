"""Made-up tile sets in the layouts in which PCam, NCT-CRC-HE-100K and MHIST are published."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image

from helpers.slides import tissue

Pixels = npt.NDArray[np.uint8]


def tile(seed: int, side: int = 32) -> Pixels:
    """Two stains; no two seeds alike."""
    return tissue(side, side, seed=seed)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def pcam(
    folder: Path, split: str, labels: Sequence[int], groups: Sequence[str] | None = None, seed: int = 0
) -> list[Pixels]:
    """HDF5 files of PCam, a row a chunk, with checksums so that damage is noticed; returns the images."""
    folder.mkdir(exist_ok=True)
    stem = f"camelyonpatch_level_2_split_{split}"
    images = [tile(seed + number) for number in range(len(labels))]
    with h5py.File(folder / f"{stem}_x.h5", "w") as file:
        file.create_dataset("x", data=np.stack(images), chunks=(1, 32, 32, 3), fletcher32=True)
    with h5py.File(folder / f"{stem}_y.h5", "w") as file:
        file["y"] = np.array(labels, np.uint8).reshape(-1, 1, 1, 1)
    if groups is not None:
        rows = [
            (row, 10 * row, 20 * row, bool(label), bool(label), group)
            for row, (label, group) in enumerate(zip(labels, groups, strict=True))
        ]
        header = ("", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
        write_csv(folder / f"{stem}_meta.csv", header, rows)
    return images


def folders(root: Path, files: Mapping[str, Pixels]) -> Path:
    """Images by their paths in a set; the suffix says the format."""
    for name, pixels in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


def mhist(root: Path) -> Path:
    """annotations.csv beside a folder of PNGs, of 64 px."""
    names = [f"MHIST_{letter}.png" for letter in "abcdef"]
    folders(root, {f"images/{name}": tile(number, 64) for number, name in enumerate(names)})
    header = (
        "Image Name",
        "Majority Vote Label",
        "Number of Annotators who Selected SSA (Out of 7)",
        "Partition",
    )
    rows = [
        (name, "SSA" if number % 2 else "HP", number, "test" if number > 3 else "train")
        for number, name in enumerate(names)
    ]
    write_csv(root / "annotations.csv", header, rows)
    return root
