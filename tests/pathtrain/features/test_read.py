"""Files of features are as they were written, or are refused; those of others are read as they are."""

import os
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.featured import write_features

from pathprep.errors import UsageError
from pathtrain.features.bags import Bags
from pathtrain.features.files import hdf5_fits, parquet_fits, write_hdf5, write_parquet
from pathtrain.features.part import Part
from pathtrain.features.read import read_bytes

FEATURES = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)
PART = Part(
    name="a",
    file="a",
    tiles=range(7),
    made={"fingerprint": "f", "slide": "a", "size": 32},
    arrays=lambda: {"coords": np.arange(14).reshape(7, 2)},
    coords_attributes={"patch_size_level0": 32, "name": "a"},
)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    (tmp_path / "features").mkdir()
    write_hdf5(tmp_path / "features" / "a.h5", PART, FEATURES)
    return tmp_path / "features" / "a.h5"


def test_plain_h5py_reads_them_with_checksums(bag: Path) -> None:
    with h5py.File(bag) as file:
        assert np.array_equal(file["features"][:], FEATURES)
        assert file["features"].fletcher32
        assert file["coords"].fletcher32
    data = bytearray(bag.read_bytes())
    data[data.index(FEATURES[3].tobytes()) + 2] ^= 1
    bag.write_bytes(data)
    with h5py.File(bag) as file, pytest.raises(OSError, match=r".*"):
        file["features"][:]


def test_no_flipped_bit_of_hdf5_is_taken(bag: Path) -> None:
    whole = bag.read_bytes()
    assert hdf5_fits(bag, PART)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        bag.write_bytes(changed)
        with pytest.raises(UsageError, match="damaged"):
            read_bytes(bag)
        if place % 211 == 0:
            assert not hdf5_fits(bag, PART)
            with pytest.raises(UsageError, match=r"a\.h5"):
                Bags.open(bag.parent).read("a")
    for end in range(0, len(whole), 1009):
        bag.write_bytes(whole[:end])
        with pytest.raises(UsageError, match=r"a\.h5"):
            Bags.open(bag.parent).read("a")


def test_a_changed_name_is_found_before_anything_is_read(bag: Path) -> None:
    with h5py.File(bag, "r+") as file:
        file.attrs["slide"] = "b"
    with pytest.raises(UsageError, match=r"damaged \(its seal differs\); run `pathtrain embed`"):
        Bags.open(bag.parent)


def test_places_are_compared_too(bag: Path) -> None:
    bags = Bags.open(bag.parent)
    data = bytearray(bag.read_bytes())
    data[data.index(np.arange(14).tobytes()) + 8] ^= 1
    bag.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        bags.places("a")


def test_no_flipped_bit_of_parquet_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, PART, FEATURES)
    assert parquet_fits(path, PART)
    table = pq.read_table(path, page_checksum_verification=True)
    assert np.array_equal(np.array(table["features"].to_pylist(), np.float32), FEATURES)
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert not parquet_fits(path, PART), place


def test_older_files_and_those_of_other_tools_are_read(tmp_path: Path) -> None:
    write_features(tmp_path / "old", {"a": FEATURES})
    assert np.array_equal(Bags.open(tmp_path / "old").read("a"), FEATURES)


def test_a_seal_that_is_gone_is_damage(bag: Path) -> None:
    with h5py.File(bag, "r+") as file:
        del file.attrs["seal"]
    with pytest.raises(UsageError, match="damaged"):
        Bags.open(bag.parent)


def test_what_is_no_file_of_features(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 500)):
        path = tmp_path / str(number) / "a.h5"
        path.parent.mkdir()
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"a\.h5: not a file of features .HDF5 with `features`."):
            Bags.open(path.parent)
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("features")
    with pytest.raises(UsageError, match=r"group\.h5: not a file of features"):
        Bags.open(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_who_may_not_read_is_told_so(bag: Path) -> None:
    bag.chmod(0)
    with pytest.raises(UsageError, match="Permission denied"):
        Bags.open(bag.parent)
