"""Files of features in the hands of those that they are written for: CLAM, TRIDENT, TITAN, anndata.

What CLAM and TRIDENT read is stated here in full; where a checkout of them is at hand (CLAM_REPO,
TRIDENT_REPO), their own code reads the files as well. Reports on files of other tools are rebuilt: such files
are refused with words, or ours are not like them.
"""

import ast
import importlib
import os
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
import torch
from helpers.slides import tissue, write_tiff
from helpers.toys import write_run

from pathprep.errors import UsageError
from pathtrain.features.bags import Bags
from pathtrain.features.embed import embed


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two slides, in each format; one at 0.25 MPP, whose tiles are 64 pixels of level 0 for 32."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / "slides").mkdir()
    write_tiff(folder / "slides" / "a.tif", tissue(300, 420, seed=1))
    write_tiff(folder / "slides" / "b.tif", tissue(300, 300, seed=2), mpp=0.25)
    run = write_run(folder / "run", folder / "none")
    for name in ("float32", "float16", "bfloat16"):
        embed(run, folder / "slides", folder / name / "h5_files", dtype=name, workers=2)
    embed(run, folder / "slides", folder / "anndata", format="anndata", workers=2)
    embed(run, folder / "slides", folder / "zarr", format="zarr", workers=2)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_clam_reads(features: Path, dtype: str) -> None:
    """Generic_MIL_Dataset: <data_dir>/h5_files/<slide_id>.h5 with features and coords, whole, to torch."""
    with h5py.File(features / dtype / "h5_files" / "a.h5") as file:
        bag, coords = torch.from_numpy(file["features"][:]), file["coords"][:]
    assert bag.dtype == (torch.float16 if dtype == "float16" else torch.float32)
    assert bag.shape == (len(coords), 24)
    assert coords.dtype == np.int64
    assert coords.shape[1] == 2


def test_what_trident_and_titan_read(features: Path) -> None:
    """Attributes of coords that are there as numbers (TRIDENT 55: "Missing attributes in coords_attrs";
    TITAN 6: can't locate attribute 'patch_size_level0'), and those of features.
    """
    with h5py.File(features / "float16" / "h5_files" / "b.h5") as file:
        attributes, coords = dict(file["coords"].attrs), torch.from_numpy(file["coords"][:])
        bag = torch.from_numpy(file["features"][:]).float().unsqueeze(0)
        said = dict(file["features"].attrs)
    assert (int(attributes["patch_size"]), int(attributes["patch_size_level0"])) == (32, 64)
    assert (int(attributes["level0_magnification"]), int(attributes["target_magnification"])) == (40, 20)
    assert (int(attributes["overlap"]), attributes["name"]) == (0, "b")
    assert bag.shape == (1, len(coords), 24)
    assert said == {"encoder": "run", "name": "b"}
    # TITAN's positions on its grid: coords / patch_size_level0 are whole numbers
    assert torch.equal(coords % int(attributes["patch_size_level0"]), torch.zeros_like(coords))


@pytest.mark.skipif("CLAM_REPO" not in os.environ, reason="CLAM_REPO: no checkout of CLAM")
def test_clams_own_dataset(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(os.environ["CLAM_REPO"])
    module = importlib.import_module("dataset_modules.dataset_generic")
    (tmp_path / "labels.csv").write_text("case_id,slide_id,label\np1,a,benign\np2,b,tumour\n")
    data = module.Generic_MIL_Dataset(
        data_dir=str(features / "float32"),
        csv_path=str(tmp_path / "labels.csv"),
        label_dict={"benign": 0, "tumour": 1},
        print_info=False,
    )
    data.load_from_h5(True)
    bags = {data.slide_data["slide_id"][number]: data[number] for number in range(2)}
    for name, (bag, label, coords) in bags.items():
        with h5py.File(features / "float32" / "h5_files" / f"{name}.h5") as file:
            assert np.array_equal(bag.numpy(), file["features"][:])
            assert np.array_equal(coords, file["coords"][:])
        assert label == (name == "b")


@pytest.mark.skipif("TRIDENT_REPO" not in os.environ, reason="TRIDENT_REPO: no checkout of TRIDENT")
def test_tridents_own_reader(features: Path) -> None:
    """Its function alone: the module asks for packages that reading does not need."""
    source = Path(os.environ["TRIDENT_REPO"], "trident", "IO.py").read_text()
    found = [each for each in ast.parse(source).body if getattr(each, "name", "") == "read_coords"]
    scope: dict[str, Any] = {"h5py": h5py}
    exec(compile(ast.Module(found, []), "IO.py", "exec"), scope)
    attributes, coords = scope["read_coords"](str(features / "float32" / "h5_files" / "b.h5"))
    for name in ("patch_size", "level0_magnification", "target_magnification", "overlap"):
        assert attributes.get(name) is not None
    assert len(coords) == len(Bags.open(features / "float32" / "h5_files").read("b"))


def test_what_scverse_opens(features: Path) -> None:
    """All slides in one table; the very numbers of the HDF5 files; rows with names of their own."""
    tables = [anndata.read_h5ad(features / "anndata" / f"{name}.h5ad") for name in "ab"]
    zarr = [anndata.read_zarr(features / "zarr" / f"{name}.zarr") for name in "ab"]
    both = anndata.concat(tables, uns_merge="unique")
    assert both.obs_names.is_unique
    assert set(both.obs["slide"]) == {"a", "b"}
    for name, table, other in zip("ab", tables, zarr, strict=True):
        with h5py.File(features / "float32" / "h5_files" / f"{name}.h5") as file:
            np.testing.assert_allclose(table.X, file["features"][:], atol=1e-5)
            half = int(file["coords"].attrs["patch_size_level0"]) / 2
            np.testing.assert_array_equal(table.obsm["spatial"], file["coords"][:] + half)
        np.testing.assert_allclose(other.X, table.X, atol=1e-5)
        assert {"side", "tissue", "focus", "pen", "stain_status"} <= set(table.obs.columns)
        assert set(table.obs["side"]) == {2 * half}
    # spatial metadata of each slide, as scanpy and squidpy look for it
    assert set(both.uns["spatial"]) == {"a", "b"}


def test_coordinates_without_features_are_refused_with_words(tmp_path: Path) -> None:
    """Patch-GCN 13, "object 'features' doesn't exist": CLAM's patches given for features."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"] = np.zeros((3, 2), np.int64)
        file["coords"].attrs["patch_level"] = 0
    with pytest.raises(UsageError, match=r"a.h5: not a file of features \(HDF5 with `features`\)"):
        Bags.open(tmp_path)


def test_an_empty_bag_of_another_tool_is_refused_with_words(tmp_path: Path) -> None:
    """TRIDENT writes (0, D) for a slide without tissue; ours have no file, and their names are in empty/."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"], file["coords"] = np.zeros((0, 24), np.float32), np.zeros((0, 2), np.int64)
    with pytest.raises(UsageError, match=r"a.h5: features are \(0, 24\); .* at least one"):
        Bags.open(tmp_path)
