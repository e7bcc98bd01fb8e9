"""`pathtrain verify`: what is whole is said to be, and each damaged file is named."""

import json
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.toys import write_run
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathprep.storage.seals import write_sealed
from pathtrain.cli import app
from pathtrain.features.bags import Bags
from pathtrain.features.embed import embed
from pathtrain.features.verify import kind_of, verify
from pathtrain.runs import log_seal
from pathtrain.runs.export import export
from pathtrain.runs.opening import load


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from helpers.toys import noise, write_dataset

    root = tmp_path_factory.mktemp("verify")
    write_dataset(root / "dataset", {"a": noise(13, seed=1), "b": noise(5, seed=2)})
    write_run(root / "run", root / "dataset")
    export(root / "run", root / "model")
    embed(root / "run", root / "dataset", root / "features")
    embed(root / "run", root / "dataset", root / "features", format="parquet")
    return root


def told(path: Path) -> tuple[list[str], list[str]]:
    found = list(verify(path))
    return [line for one in found for line in one.problems], [line for one in found for line in one.notes]


def test_kinds(room: Path) -> None:
    assert [kind_of(room / name) for name in ("run", "model", "features")] == ["run", "model", "features"]
    assert kind_of(room / "features" / "a.h5") == "features"
    with pytest.raises(UsageError, match="a dataset; check it with `pathprep verify"):
        kind_of(room / "dataset")
    with pytest.raises(UsageError, match="neither a run, nor an exported model, nor features"):
        kind_of(room)


def test_a_part_of_no_bytes_in_features_of_others_does_not_end_the_process(tmp_path: Path) -> None:
    """They have no seal that would tell before libhdf5 sees them."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("features", data=np.ones((4, 8), "f4"), chunks=(2, 8), fletcher32=True)
        sizes = struct.pack("<IIQ", stored.id.get_chunk_info(0).size, 0, 2)  # as the index has the second
    raw = (tmp_path / "a.h5").read_bytes()
    assert raw.count(sizes) == 1
    (tmp_path / "a.h5").write_bytes(raw.replace(sizes, bytes(4) + sizes[4:]))
    (line,), _ = told(tmp_path / "a.h5")
    assert "a.h5" in line
    assert "has 0 bytes" in line


def test_what_is_gone_from_a_run_is_told(
    room: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(room / "run", tmp_path / "run")
    log_seal.write(run)
    assert told(run)[0] == []
    (run / "log.jsonl").unlink()
    (run / "run.json").unlink()
    load(run)
    assert f"{run}/run.json is gone: whether the run's tiles were normalised" in caplog.text
    gone, log = told(run)[0]
    assert f"{run}/run.json: gone" in gone
    assert log == f"{run}/log.jsonl: gone, and its figures with it"


@pytest.mark.parametrize(
    "seal",
    [{}, {"bytes": 2**80, "sha256": "x"}, {"bytes": 2**62, "sha256": "x"}, {"bytes": "x", "sha256": 1}],
)
def test_a_seal_of_a_log_that_says_what_none_does(seal: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    write_sealed(tmp_path / log_seal.NAME, seal)
    assert str(tmp_path) in str(log_seal.differs(tmp_path))


def test_all_is_well(room: Path) -> None:
    result = CliRunner().invoke(app, ["verify", *(str(room / name) for name in ("run", "model", "features"))])
    assert result.exit_code == 0, result.output
    for kind in ("run", "model", "features"):
        assert f"{room / kind} ({kind})" in result.output
    assert "all as written" in result.output
    assert "note" not in result.output


@pytest.mark.parametrize(
    "name",
    [
        "run/checkpoints/00000020.pt",
        "run/checkpoints/00000020.json",
        "run/checkpoints/latest.json",
        "run/log.jsonl",
        "run/run.json",
        "model/config.json",
        "model/model.safetensors",
        "features/a.h5",
        "features/b.parquet",
    ],
)
def test_each_damaged_file_is_named(room: Path, name: str) -> None:
    path = room / name
    whole = path.read_bytes()
    places = (
        (3,) if path.suffix == ".jsonl" or name == "run/run.json" else (3, len(whole) // 2, len(whole) - 9)
    )
    try:
        for place in places:
            changed = bytearray(whole)
            changed[place] ^= 0x80
            path.write_bytes(changed)
            problems, _ = told(room / name.split("/")[0])
            assert problems
            assert all(path.name in line or path.parent.name in line for line in problems)
            arguments = ["verify", "--json", str(room / name.split("/")[0])]
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 1
            assert json.loads(result.stdout)["bad"]
    finally:
        path.write_bytes(whole)


def test_what_is_not_ours_is_named_and_no_damage(room: Path) -> None:
    for name in ("run", "model", "features"):
        (room / name / "notes.txt").write_text("mine")
    (room / "run" / ".tmp-host~1.00000000~report.html").touch()
    card = room / "model" / "README.md"
    before = card.read_bytes()
    card.write_bytes(before + b"\nUsed in our paper.\n")
    result = CliRunner().invoke(app, ["verify", *(str(room / name) for name in ("run", "model", "features"))])
    assert result.exit_code == 0, result.output
    assert result.output.count("notes.txt: not of ours, and left alone") == 3
    assert "report.html: temporary, of a command that runs or was killed" in result.output
    assert "README.md: changed since it was exported: edited or damaged; the model is whole" in result.output
    for name in ("run", "model", "features"):
        (room / name / "notes.txt").unlink()
    (room / "run" / ".tmp-host~1.00000000~report.html").unlink()
    card.write_bytes(before)


def test_features_that_are_being_written_are_none_yet(tmp_path: Path) -> None:
    """Nor are those that a killed run has left: the folder can be read beside a run, and after it."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = np.ones((3, 2), np.float32)
    unfinished = tmp_path / ".tmp-host~1.abc.def~b.h5"
    unfinished.touch()
    assert list(Bags.open(tmp_path).counts) == ["a"]
    assert [(found.file, found.problems) for found in verify(tmp_path)] == [
        (str(tmp_path / "a.h5"), []),
        (str(unfinished), []),
    ]
