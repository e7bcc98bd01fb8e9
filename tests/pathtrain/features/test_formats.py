"""Formats and numbers of features: read by others' readers, verified, refused where they cannot be held."""

import builtins
import json
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.toys import noise, write_dataset

from pathprep.errors import UsageError
from pathtrain.features.bags import Bags
from pathtrain.features.embed import embed
from pathtrain.features.files import FORMATS
from pathtrain.features.part import Part
from pathtrain.features.verify import verify

FEATURES = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)


def part(dtype: str = "float32", **more: Any) -> Part:
    return Part(
        name="a",
        file="a",
        tiles=range(7),
        made={
            "fingerprint": "f",
            "slide": "a",
            "size": 32,
            **({} if dtype == "float32" else {"dtype": dtype}),
        },
        arrays=lambda: {"coords": 32 * np.arange(14).reshape(7, 2)},
        coords_attributes={"patch_size_level0": 32, "name": "a"},
        about={"encoder": "vit", "mpp": 0.5, "dtype": dtype},
        columns=lambda: {
            "tissue": np.linspace(0, 1, 7, dtype=np.float32),
            "stain_status": np.array(["fitted"] * 7, dtype=object),
        },
        **more,
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numbers_are_kept_as_asked_for(tmp_path: Path, name: str, dtype: str) -> None:
    kind, made = FORMATS[name], part(dtype)
    path = tmp_path / f"a{kind.ending}"
    if dtype == "bfloat16" and name != "hdf5":
        with pytest.raises(UsageError, match="`dtype` bfloat16: .* has no such numbers; .*`format` hdf5"):
            kind.write(path, made, FEATURES)
        assert not list(tmp_path.iterdir())
        return
    kind.write(path, made, FEATURES)
    assert kind.fits(path, made)
    assert not kind.fits(path, part("float16" if dtype == "float32" else "float32"))
    assert kind.made(path)["fingerprint"] == "f"
    assert kind.made(path)["encoder"] == "vit"
    expected = {
        "float32": FEATURES,
        "float16": FEATURES.astype(np.float16),
        "bfloat16": torch.from_numpy(FEATURES).bfloat16().float().numpy(),
    }[dtype]
    if name == "hdf5":
        with h5py.File(path) as file:
            found = file["features"][:]
            assert file["features"].id.get_type().get_size() == (4 if dtype == "float32" else 2)
            assert dict(file["features"].attrs) == {"encoder": "vit", "name": "a"}
        np.testing.assert_array_equal(Bags.open(tmp_path).read("a"), expected.astype(np.float32))
    elif name == "parquet":
        table = pq.read_table(path)
        found = np.array(table["features"].to_pylist(), expected.dtype)
        assert str(table["features"].type.value_type) == ("float" if dtype == "float32" else "halffloat")
    else:
        found = (anndata.read_h5ad if name == "anndata" else anndata.read_zarr)(path).X
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert all(not each.problems for each in verify(path))


@pytest.mark.parametrize("name", ["anndata", "zarr"])
def test_anndata_holds_places_and_facts(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a{FORMATS[name].ending}"
    FORMATS[name].write(path, part(), FEATURES)
    table = (anndata.read_h5ad if name == "anndata" else anndata.read_zarr)(path)
    coords = 32 * np.arange(14).reshape(7, 2)
    assert table.obs_names[1] == "a__64_96"
    assert {"slide", "x", "y", "tissue", "stain_status"} <= set(table.obs.columns)
    np.testing.assert_array_equal(table.obs[["x", "y"]], coords)
    np.testing.assert_array_equal(table.obsm["spatial"], coords + 16.0)  # centres
    assert set(table.obs["slide"]) == {"a"}
    assert str(table.uns["pathtrain"]["encoder"]) == "vit"
    assert float(table.uns["pathtrain"]["mpp"]) == 0.5
    assert float(table.uns["spatial"]["a"]["scalefactors"]["spot_diameter_fullres"]) == 32
    both = anndata.concat([table, table[:3]], label="set", index_unique="-")
    assert both.shape == (10, 12)
    table.write_h5ad(tmp_path / "again.h5ad")  # issue 708 of anndata: lists of dictionaries in uns cannot be
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "again.h5ad").X, FEATURES)


def test_damage_is_found(tmp_path: Path) -> None:
    for name, kind in FORMATS.items():
        path = tmp_path / name / f"a{kind.ending}"
        path.parent.mkdir()
        kind.write(path, part(), FEATURES)
        files = [path] if path.is_file() else sorted(each for each in path.rglob("c/*/*") if each.is_file())
        for file in files[:1]:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        assert files
        assert not kind.fits(path, part())
        assert any(each.problems for each in verify(path.parent)), name
        kind.write(path, part(), FEATURES)  # over the damaged one
        assert kind.fits(path, part())


def test_zarr_is_replaced_at_once(tmp_path: Path) -> None:
    kind, path = FORMATS["zarr"], tmp_path / "a.zarr"
    kind.write(path, part(), FEATURES)
    kind.write(path, part("float16"), FEATURES)
    assert anndata.read_zarr(path).X.dtype == np.float16
    assert [each.name for each in tmp_path.iterdir()] == ["a.zarr"]
    (path / "stray").write_text("")
    assert not kind.fits(path, part("float16"))


def test_float16_that_overflows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a.h5: features reach 1e\+05, .* give `dtype` bfloat16"):
        FORMATS["hdf5"].write(tmp_path / "a.h5", part("float16"), 1e5 * np.ones((7, 12), np.float32))
    assert not list(tmp_path.iterdir())


def test_patch_tokens_have_rows_of_rows(tmp_path: Path) -> None:
    tokens = np.arange(7 * 4 * 12, dtype=np.float32).reshape(7, 4, 12)
    FORMATS["hdf5"].write(tmp_path / "a.h5", part(), tokens)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["features"][:], tokens)
    FORMATS["parquet"].write(tmp_path / "a.parquet", part(), tokens)
    table = pq.read_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(np.array(table["features"].to_pylist()), tokens)
    with pytest.raises(UsageError, match="4 vectors per tile, .* give `format` hdf5 or parquet"):
        FORMATS["anndata"].write(tmp_path / "a.h5ad", part(), tokens)


def test_without_anndata_the_command_that_installs_it_is_named(
    tmp_path: Path, dataset: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "anndata":
            raise ImportError(name)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"anndata is not installed: `pip install 'pathprep\[anndata\]'`"):
        embed(run, dataset, tmp_path / "features", format="anndata")
    assert not (tmp_path / "features").exists()


def test_a_dataset_gives_anndata_too(tmp_path: Path, dataset: Path, run: Path) -> None:
    embed(run, dataset, tmp_path / "features")
    summary = embed(run, dataset, tmp_path / "features", format="anndata")
    assert summary.written == 2
    assert embed(run, dataset, tmp_path / "features", format="anndata").kept == 2
    table = anndata.read_h5ad(tmp_path / "features" / "b.h5ad")
    with h5py.File(tmp_path / "features" / "b.h5") as file:
        np.testing.assert_array_equal(table.X, file["features"][:])
        np.testing.assert_array_equal(table.obsm["spatial"], file["coords"][:] + 32.0)


def test_half_precision_of_a_dataset_is_evaluated_and_kept(tmp_path: Path, run: Path) -> None:
    dataset = write_dataset(tmp_path / "half", {"a": noise(13, seed=1)})
    embed(run, dataset, tmp_path / "features", dtype="float16")
    assert embed(run, dataset, tmp_path / "features", dtype="float16").kept == 1
    assert Bags.open(tmp_path / "features").read("a").dtype == np.float32
    assert embed(run, dataset, tmp_path / "features").written == 1  # as float32


def test_what_is_written_about_a_parquet_file_is_json(tmp_path: Path) -> None:
    FORMATS["parquet"].write(tmp_path / "a.parquet", part(), FEATURES)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["features", "x", "y", "tissue", "stain_status"]
    about = json.loads(table.schema.metadata[b"pathtrain"])
    assert about["about"] == {"encoder": "vit", "mpp": 0.5, "dtype": "float32"}
