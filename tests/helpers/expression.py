"""Spatial transcriptomics small enough for unit tests, in both layouts, with a gene that the tiles show."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from scipy import sparse

Counts = npt.NDArray[np.int64]
GENES = ["BRIGHT", "DARK", "NOISE", "STILL"]  # STILL does not vary


def counts(spots: int, seed: int) -> Counts:
    """(N, 4): GENES."""
    rng = np.random.default_rng(seed)
    bright = rng.integers(0, 60, spots)
    return np.stack([bright, 60 - bright, rng.integers(0, 60, spots), np.full(spots, 7)], axis=1)


def shown(found: Counts, side: int, seed: int) -> npt.NDArray[np.uint8]:
    """(N, side, side, 3) tiles as bright as BRIGHT is high."""
    rng = np.random.default_rng(seed)
    level = 90 + 2.0 * found[:, 0]
    noise = rng.normal(0, 8, (len(found), side // 8, side // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    tiles = level[:, None, None, None] * np.array([1.0, 0.7, 0.9]) + noise
    return np.clip(tiles, 0, 255).astype(np.uint8)


def write_tiles(
    path: Path,
    tiles: npt.NDArray[np.uint8],
    barcodes: Sequence[str],
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """As hestcore writes them: appended one by one, barcodes (N, 1) of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    across = int(np.ceil(np.sqrt(len(tiles))))
    places = np.array([[400 * (row % across), 400 * (row // across)] for row in range(len(tiles))])
    with h5py.File(path, "w") as file:
        image = file.create_dataset("img", data=tiles, chunks=True, maxshape=(None, *tiles.shape[1:]))
        names = np.array([[name] for name in barcodes], dtype=object)
        file.create_dataset("barcode", data=names, dtype=h5py.string_dtype(), maxshape=(None, 1))
        coords = file.create_dataset("coords", data=places)
        for name, value in (attributes or {"pixel_size": 0.25, "downsample": 2.0}).items():
            image.attrs[name] = coords.attrs[name] = value
    return path


def write_h5ad(path: Path, values: Any, barcodes: Sequence[str], genes: Sequence[str] = GENES) -> Path:
    """Counts of spots, sparse as most are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = anndata.AnnData(
        sparse.csr_matrix(np.asarray(values, dtype=np.float64)),
        obs=pd.DataFrame(index=list(barcodes)),
        var=pd.DataFrame(index=list(genes)),
    )
    table.write_h5ad(path)
    return path


def hest_task(path: Path, spots: Mapping[str, int], genes: Sequence[str] = GENES, folds: bool = True) -> Path:
    """A task of samples with so many spots; leave-one-out splits."""
    for number, (name, count) in enumerate(spots.items()):
        found = counts(count, seed=number)
        barcodes = [f"{name}-{spot:03d}-1" for spot in range(count)]
        write_tiles(path / "patches" / f"{name}.h5", shown(found, 224, seed=number), barcodes)
        order = np.random.default_rng(number).permutation(count)  # rows of counts are in their own order
        write_h5ad(path / "adata" / f"{name}.h5ad", found[order], [barcodes[spot] for spot in order])
    (path / "var_50genes.json").write_text(json.dumps({"genes": list(genes)}))
    if folds:
        for number, name in enumerate(spots):
            write_split(path, number, [each for each in spots if each != name], [name])
    return path


def write_split(path: Path, number: int, train: Sequence[str], test: Sequence[str]) -> None:
    """Both halves of a split."""
    (path / "splits").mkdir(exist_ok=True)
    for half, names in (("train", train), ("test", test)):
        with (path / "splits" / f"{half}_{number}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["", "sample_id", "patches_path", "expr_path"])  # pandas' row numbers
            for row, name in enumerate(names):
                writer.writerow([row, name, f"patches/{name}.h5", f"adata/{name}.h5ad"])


def st_folder(path: Path, patients: Mapping[str, str], across: int = 5, pitch: int = 100) -> Path:
    """Sections of the ST pipeline's folders: ``across`` x ``across`` spots ``pitch`` px apart, 200 um in
    truth, so that a tile of 112 um has 56 px of 100; section -> patient.
    """
    for number, (name, patient) in enumerate(patients.items()):
        found = counts(across * across, seed=number)
        side = pitch * (across + 1)
        picture = np.full((side, side, 3), 240, np.uint8)
        tiles = shown(found, 64, seed=number)
        rows, places = [], ["x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected"]
        for spot, tile in enumerate(tiles):
            x, y = spot % across + 1, spot // across + 1
            left, top = x * pitch - 32, y * pitch - 32
            picture[top : top + 64, left : left + 64] = tile
            rows.append("\t".join([f"{x}x{y}", *map(str, found[spot])]))
            places.append(f"{x}\t{y}\t{x}\t{y}\t{x * pitch}\t{y * pitch}\t1")
        (path / "ST-imgs" / patient / name).mkdir(parents=True)
        Image.fromarray(picture).save(path / "ST-imgs" / patient / name / "he.png")
        for folder in ("ST-cnts", "ST-spotfiles"):
            (path / folder).mkdir(exist_ok=True)
        header = "\t".join(["", *GENES])
        (path / "ST-cnts" / f"{name}.tsv").write_text("\n".join([header, *rows]) + "\n")
        (path / "ST-spotfiles" / f"{name}_selection.tsv").write_text("\n".join(places) + "\n")
    return path
