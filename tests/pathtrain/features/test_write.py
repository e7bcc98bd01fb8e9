"""Features written by several processes: each file once, the same bytes, errors of all."""

import gc
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.toys import noise, spoil, write_dataset

from pathprep.errors import UsageError
from pathtrain.distributed.workers import Place
from pathtrain.features.embed import embed
from pathtrain.features.files import write_hdf5
from pathtrain.features.part import Part
from pathtrain.features.write import remove, share


def test_shares_are_disjoint_complete_and_even() -> None:
    sizes = [1000, 400, 400, 390, 10, 5, 5]
    ends = np.cumsum(sizes).tolist()
    parts = [
        Part(f"s{number}", f"s{number}", range(end - size, end), {}, dict, {})
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    shares = [share(parts, Place(rank, 2)) for rank in range(2)]
    assert sorted(part.name for some in shares for part in some) == [part.name for part in parts]
    loads = [sum(len(part.tiles) for part in some) for some in shares]
    assert max(loads) - min(loads) <= 210
    assert share(parts, Place()) == parts


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    part = Part("s", "s", range(400), {"slide": "s"}, lambda: {"coords": np.zeros((400, 2), np.int64)}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_hdf5(tmp_path / "s.h5", part, np.ones((400, 192), np.float32))
        gc.collect()  # libhdf5 would write again, and crash
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "s.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rank", ["2", "-1", "x", "0"])
def test_wrong_environment(
    tmp_path: Path, dataset: Path, run: Path, rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        UsageError,
        match=f"RANK={rank}, WORLD_SIZE=2, LOCAL_RANK=None, MASTER_ADDR=None: not what torchrun sets",
    ):
        embed(run, dataset, tmp_path / "features")


def both(*arguments: object) -> tuple[list[int], list[str], list[str]]:
    """Exit codes, stdout and stderr of the command in two processes, started as torchrun starts them."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    world = {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pathtrain", "embed", *map(str, arguments)],
            env={**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [out for out, _ in said], [err for _, err in said]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path: Path, dataset: Path, run: Path) -> None:
    embed(run, dataset, tmp_path / "one")
    codes, said, errors = both(run, dataset, "--out", tmp_path / "two")
    assert codes == [0, 0], errors
    assert "two: 2 files written, 1 slide without a tile; 18 tiles, 24 numbers each, " in said[0]
    assert said[0].endswith(", 2 processes\n")
    assert said[1] == ""
    names = [{path.name for path in (tmp_path / folder).iterdir()} for folder in ("one", "two")]
    assert names[0] == names[1] == {"a.h5", "b.h5"}
    for name in names[0]:
        with h5py.File(tmp_path / "one" / name) as one, h5py.File(tmp_path / "two" / name) as two:
            np.testing.assert_allclose(one["features"][:], two["features"][:], atol=1e-5)
            assert np.array_equal(one["coords"][:], two["coords"][:])
    spoil(dataset, "b", 1, b"damage")  # of the second process
    (tmp_path / "two" / "b.h5").unlink()
    codes, said, errors = both(run, dataset, "--out", tmp_path / "two")
    assert codes == [1, 1]
    assert "two: 0 files written, 1 kept as they were, 1 slide without a tile, 1 failed; " in said[0]
    assert "b: slide b, tile 64_0 in " in errors[0]
    assert (said[1], "tile 64_0" in errors[1]) == ("", False)


@pytest.mark.slow
def test_torchrun(tmp_path: Path, dataset: Path, run: Path) -> None:
    """Torchrun ends all processes when one ends with an error, so that none may do it before the others."""
    slides = {f"s{number}": noise(40, seed=number) for number in range(8)}
    many = write_dataset(tmp_path / "many", slides)
    spoil(many, "s0", 1, b"damage")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*launcher, "-m", "pathtrain", "embed", run, many, "--out", tmp_path / "two"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("7 files written, 1 failed") == 1
    assert done.stderr.count("  s0: slide s0, tile 32_0 in ") == 1
    assert re.findall(r"exitcode  : (-?\d+)", done.stderr) == ["1", "1"]
    assert sorted(path.stem for path in (tmp_path / "two").glob("*.h5")) == [f"s{n}" for n in range(1, 8)]


def test_several_processes_remove_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `replace` under torchrun, where each looks for features of other models."""
    (tmp_path / "a.zarr" / "X").mkdir(parents=True)
    (tmp_path / "a.zarr" / "X" / "0").touch()
    rmtree, calls = shutil.rmtree, []

    def first_met_by_another(path: Path) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise FileNotFoundError(2, "No such file or directory", str(path / "gone"))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", first_met_by_another)
    remove(tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
    remove(tmp_path / "a.zarr")
