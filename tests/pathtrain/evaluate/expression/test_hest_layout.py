"""HEST's files as other tools leave them, and what is said of those that cannot be used."""

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from helpers.expression import GENES, counts, hest_task, shown, write_h5ad, write_split, write_tiles
from scipy import sparse

from pathprep.errors import DatasetError, UsageError
from pathtrain.evaluate.expression.counts import listed
from pathtrain.evaluate.expression.h5ad import Counts
from pathtrain.evaluate.expression.hest_layout import HestSection, splits
from pathtrain.evaluate.expression.tasks import tasks_of
from pathtrain.params.expression import HestParams

FOUND = counts(6, seed=0)
TILES = shown(FOUND, 224, seed=0)
NAMES = [f"AAAC{spot}-1" for spot in range(6)]


def task(path: Path) -> Path:
    return hest_task(path / "T", {"A": 6, "B": 6})


def read(path: Path, **settings: object) -> np.ndarray:
    ((found, _, _),) = tasks_of(path, HestParams(**settings), None, None)  # type: ignore[arg-type]
    return found.values


def test_values_are_log1p_of_raw_counts_in_the_order_of_the_tiles(tmp_path: Path) -> None:
    found = np.concatenate([counts(6, 0), counts(6, 1)])
    np.testing.assert_allclose(read(task(tmp_path)), np.log1p(found))
    totals = found.sum(axis=1)
    scaled = np.log1p(found * np.median(totals) / totals[:, None])
    np.testing.assert_allclose(read(tmp_path / "T", counts="scaled"), scaled)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "integers"])
def test_counts_however_they_are_stored(tmp_path: Path, kind: str) -> None:
    values = {
        "csr": sparse.csr_matrix(FOUND.astype(np.float32)),
        "csc": sparse.csc_matrix(FOUND.astype(np.float32)),
        "dense": FOUND.astype(np.float32),
        "integers": FOUND,
    }[kind]
    obs, var = pd.DataFrame(index=NAMES), pd.DataFrame(index=GENES)
    anndata.AnnData(values, obs=obs, var=var).write_h5ad(tmp_path / "x.h5ad")
    found = Counts(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(found.of(["NOISE", "BRIGHT"]), FOUND[:, [2, 0]])
    np.testing.assert_array_equal(found.totals(), FOUND.sum(axis=1))


def test_files_of_anndata_before_07(tmp_path: Path) -> None:
    """obs and var are record arrays with a field index."""
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        file["X"] = FOUND.astype(np.float32)
        for name, index in (("obs", NAMES), ("var", GENES)):
            rows = [(each.encode(), 1.0) for each in index]
            file[name] = np.array(rows, dtype=[("index", "S12"), ("n_counts", "f4")])
    found = Counts(tmp_path / "old.h5ad")
    assert found.spots.tolist() == NAMES
    np.testing.assert_array_equal(found.of(["DARK"]), FOUND[:, [1]])


def test_tiles_of_an_older_segmentation_than_the_counts(tmp_path: Path) -> None:
    """mahmoodlab/HEST issue 68: one sample has 3,262 tiles in the benchmark and 3,069 elsewhere."""
    table = Counts(write_h5ad(tmp_path / "A.h5ad", FOUND[1:5], NAMES[1:5]))
    section = HestSection("A", write_tiles(tmp_path / "A.h5", TILES, NAMES), "", table)
    assert section.spots == NAMES[1:5]
    assert section.left_out == {"no counts": 2}
    np.testing.assert_array_equal(section.tile(0), TILES[1])
    section.close()
    np.testing.assert_array_equal(section.tile(3), TILES[4])
    assert section.um == 0.25


def test_spots_that_have_become_numbers(tmp_path: Path) -> None:
    """chanzuckerberg/single-cell-data-portal issue 6277: obs has digits, the barcodes are gone."""
    table = Counts(write_h5ad(tmp_path / "A.h5ad", FOUND, [str(row) for row in range(6)]))
    tiles = write_tiles(tmp_path / "A.h5", TILES, NAMES)
    words = r"A.h5: no spot in common with .*A.h5ad; .*AAAC0-1.*like 0, 1: name"
    with pytest.raises(DatasetError, match=words):
        HestSection("A", tiles, "", table)


def test_genes_and_spots_that_are_there_twice(tmp_path: Path) -> None:
    """scverse/scanpy issue 534: genes of 10x are not unique; scverse/anndataR issue 256: nor are spots."""
    genes, spots = tmp_path / "genes.h5ad", tmp_path / "spots.h5ad"
    with pytest.warns(UserWarning, match="Variable names are not unique"):
        write_h5ad(genes, FOUND, NAMES, ["BRIGHT", "DARK", "BRIGHT", "STILL"])
    with pytest.warns(UserWarning, match="Observation names are not unique"):
        write_h5ad(spots, FOUND, [*NAMES[:5], NAMES[0]])
    assert Counts(genes).of(["DARK"]).shape == (6, 1)  # another gene's names do not matter
    with pytest.raises(DatasetError, match=r"genes.h5ad: gene BRIGHT is there twice \(var\); make names"):
        Counts(genes).of(["DARK", "BRIGHT"])
    with pytest.raises(DatasetError, match=r"spots.h5ad: spot AAAC0-1 is there twice \(obs\)"):
        Counts(spots)


def test_counts_of_other_layouts_and_damaged_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.h5ad"
    with h5py.File(path, "w") as file:
        file["matrix/data"] = np.zeros(3)  # 10x's own .h5
    with pytest.raises(DatasetError, match=r"x.h5ad: not AnnData, it has no X and no obs and no var"):
        Counts(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(DatasetError, match=r"x.h5ad: cannot be read as AnnData.*copy it again"):
        Counts(path)
    write_h5ad(path, FOUND, NAMES)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DatasetError, match=r"x.h5ad: cannot be read"):
        Counts(path)
    with pytest.raises(DatasetError, match=r"gone.h5ad: cannot be read as AnnData"):
        Counts(tmp_path / "gone.h5ad")
    good = Counts(write_h5ad(tmp_path / "good.h5ad", FOUND, NAMES))
    with pytest.raises(DatasetError, match=r"has no gene ERBB2 \(1 of 2 are missing\); .*BRIGHT, DARK"):
        good.of(["ERBB2", "DARK"])


def test_tiles_of_other_layouts(tmp_path: Path) -> None:
    good = Counts(write_h5ad(tmp_path / "good.h5ad", FOUND, NAMES))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((6, 4))
    with pytest.raises(DatasetError, match=r"has no img and no barcode and no coords.*this has features"):
        HestSection("a", path, "", good)
    write_tiles(path, TILES[:, :64, :64], NAMES)
    with pytest.raises(DatasetError, match=r"img is uint8 \(6, 64, 64, 3\).*112 um at 0.5 MPP"):
        HestSection("a", path, "", good)
    write_tiles(path, TILES, NAMES, {"pixel_size": 0.5, "downsample": 2.0})
    with pytest.raises(DatasetError, match="its tiles are at 1 MPP, HEST-Benchmark's at 0.5"):
        HestSection("a", path, "", good)
    write_tiles(path, TILES, [*NAMES[:5], NAMES[0]])
    with pytest.raises(DatasetError, match="a barcode is there twice"):
        HestSection("a", path, "", good)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "is nan, not a number"),
        (-1.0, "is -1, negative"),
        (2.5, "is 2.5, no whole number .*`any_values`"),
    ],
)
def test_values_that_are_no_counts(tmp_path: Path, value: float, words: str) -> None:
    path = task(tmp_path)
    spoilt = counts(6, 0).astype(np.float64)
    spoilt[2, 1] = value
    write_h5ad(path / "adata" / "A.h5ad", spoilt, [f"A-{spot:03d}-1" for spot in range(6)])
    with pytest.raises(DatasetError, match=rf"A.h5ad: DARK of spot A-002-1 {words}"):
        read(path)
    if value == 2.5:
        assert read(path, any_values=True)[2, 1] == np.log1p(2.5)
    else:
        with pytest.raises(DatasetError, match="DARK"):
            read(path, any_values=True)


def test_splits_that_cannot_be(tmp_path: Path) -> None:
    path = task(tmp_path)
    assert splits(path) == [("0", ["B"], ["A"]), ("1", ["A"], ["B"])]
    write_split(path, 0, ["A", "B"], ["B"])
    with pytest.raises(UsageError, match=r"test_0.csv: sample B is in train_0.csv as well"):
        splits(path)
    (path / "splits" / "train_0.csv").unlink()
    with pytest.raises(UsageError, match=r"train_0.csv: not there, but its other half is"):
        splits(path)
    (path / "splits" / "fold.csv").write_text("sample_id\nA\n")
    with pytest.raises(UsageError, match=r"fold.csv: no split"):
        splits(path)


def test_a_file_that_a_split_names_and_a_folder_without_tiles(tmp_path: Path) -> None:
    path = task(tmp_path)
    (path / "patches" / "B.h5").unlink()
    with pytest.raises(DatasetError, match=r"patches/B.h5: not there"):
        read(path)
    (tmp_path / "none" / "patches").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"holds no .h5 file"):
        read(tmp_path / "none")


def test_lists_of_genes(tmp_path: Path) -> None:
    path = tmp_path / "genes.json"
    for text in (json.dumps({"genes": ["a", "b"]}), '["a", "b"]', "a\n\nb\n"):
        path.write_text(text)
        assert listed(path) == ["a", "b"]
    bad = {"": "names no gene", "a\na": "names a gene twice", '{"g": []}': "no list", "[1]": "no list"}
    for text, words in bad.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=rf"genes.json.*{words}"):
            listed(path)
