"""Small drawn copies of published tile sets, named and laid out as their publishers have them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.tilesets import mhist, pcam, tile, write_csv

CRC = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
BRACS = ("0_N", "1_PB", "2_UDH", "3_FEA", "4_ADH", "5_DCIS", "6_IC")


def draw(root: Path, names: Mapping[str, tuple[int, int]]) -> None:
    """Images by path, with width and height."""
    for seed, (name, (width, height)) in enumerate(names.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.ascontiguousarray(tile(seed, max(width, height))[:height, :width])
        Image.fromarray(pixels).save(root / name)


def bach(root: Path, numbers: Mapping[str, range] | None = None) -> Path:
    """Numbers of the files of each class; by default all 400, of 16 x 20 px."""
    names = {}
    for label, prefix in (("Benign", "b"), ("InSitu", "is"), ("Invasive", "iv"), ("Normal", "n")):
        for number in (numbers or {}).get(label, range(1, 101)):
            names[f"ICIAR2018_BACH_Challenge/Photos/{label}/{prefix}{number:03}.tif"] = (20, 16)
    draw(root, names)
    write_csv(root / "ICIAR2018_BACH_Challenge/Photos/microscopy_ground_truth.csv", ("a", "b"), [("x", "y")])
    return root


def bracs(root: Path) -> Path:
    names = {}
    for number, split in enumerate(("train", "val", "test")):
        for label in BRACS:
            name = f"BRACS_RoI/latest_version/{split}/{label}/BRACS_{280 + number}_{label[2:]}_{number}.png"
            names[name] = (24 + number, 40)
    draw(root, names)
    return root


def breakhis(root: Path) -> Path:
    """Two patients of each class of the benchmark, one of them for validation; other classes and zooms."""
    names = {}
    of = {
        "benign/SOB/tubular_adenoma/SOB_B_TA": ("13200", "16184CD"),
        "benign/SOB/fibroadenoma/SOB_B_F": ("9133", "23060CD"),
        "malignant/SOB/ductal_carcinoma/SOB_M_DC": ("2523", "16875"),
        "malignant/SOB/mucinous_carcinoma/SOB_M_MC": ("10147", "19979"),
        "malignant/SOB/lobular_carcinoma/SOB_M_LC": ("12204",),
    }
    for path, patients in of.items():
        stem = path.rpartition("/")[2]
        for patient in patients:
            for zoom in ("40", "100"):
                folder = f"BreaKHis_v1/histology_slides/breast/{path}_14-{patient}/{zoom}X"
                names[f"{folder}/{stem}-14-{patient}-{zoom}-001.png"] = (35, 23)
    draw(root, names)
    return root


def crc(root: Path, train: str = "NCT-CRC-HE-100K") -> Path:
    draw(root, {f"{train}/{label}/{label}-AAAF{n}.tif": (16, 16) for label in CRC for n in "AB"})
    draw(root, {f"CRC-VAL-HE-7K/{label}/{label}-TCGA-{n}.tif": (16, 16) for label in CRC for n in "AB"})
    return root


def gleason(root: Path) -> Path:
    names = {}
    for array in ("ZT76_39_A", "ZT111_4_B", "ZT199_1_A", "ZT204_6_B"):
        for label in range(4):
            spot = f"{array}_{label}_2"
            folder = f"train_validation_patches_750/{spot}"
            names[f"{folder}/{spot}_patch_{label:02}_class_{label}.jpg"] = (32, 32)
    for pathologist in (1, 2):
        folder = f"test_patches_750/patho_{pathologist}/ZT80_38_A_1_2"
        names[f"{folder}/ZT80_38_A_1_2_patch_18_class_1.jpg"] = (32, 32)
    draw(root, names)
    return root


def published(name: str, root: Path) -> Path:
    """A copy of a set by the name of its preset."""
    if name == "pcam":
        for split in ("train", "valid", "test"):
            pcam(root, split, [0, 1] * 6, [f"{split}{n // 4}" for n in range(12)], seed=len(split))
        return root
    if name == "crc-100k-nonorm":
        return crc(root, "NCT-CRC-HE-100K-NONORM")
    made = {"bach": bach, "bracs": bracs, "breakhis": breakhis, "crc-100k": crc, "gleason": gleason}
    return mhist(root) if name == "mhist" else made[name](root)
