"""Checkpoints: damage is noticed, the newest intact one wins, old ones go."""

import json
from pathlib import Path

import pytest
import torch

from pathtrain.errors import CheckpointError
from pathtrain.runs import checkpoint


def value(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((100,), float(step))}


def fill(run: Path, steps: list[int], keep: int = 10) -> None:
    for step in steps:
        checkpoint.save(run, value(step), step, "config", keep)


def test_round_trip(tmp_path: Path) -> None:
    fill(tmp_path, [5])
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.file, found.step, found.config) == ("00000005.pt", 5, "config")
    assert torch.equal(checkpoint.read(tmp_path, found)["weights"], torch.full((100,), 5.0))
    assert json.loads((tmp_path / "checkpoints" / "latest.json").read_text())["step"] == 5


def test_none_yet(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        checkpoint.load(tmp_path)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    fill(tmp_path, [5, 10, 15, 20], keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "00000015.json",
        "00000015.pt",
        "00000020.json",
        "00000020.pt",
        "latest.json",
    ]


@pytest.mark.parametrize("damage", ["flip a byte", "cut", "remove", "damage the entry"])
def test_a_damaged_newest_is_passed_over_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, [5, 10])
    path = tmp_path / "checkpoints" / "00000010.pt"
    data = path.read_bytes()
    if damage == "flip a byte":
        path.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "remove":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"file": "000')
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, [5, 10])
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="all 2 checkpoints are damaged"):
        checkpoint.load(tmp_path)


def test_a_file_without_its_entry_does_not_count(tmp_path: Path) -> None:
    """What a kill between the two writes leaves."""
    fill(tmp_path, [5, 10])
    (tmp_path / "checkpoints" / "00000010.json").unlink()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 5


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"step": 1, "evil": print}, 1, "config", 1)
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values, and is not"):
        checkpoint.load(tmp_path)


def test_damaged_ones_of_later_steps_do_not_push_the_intact_one_out(tmp_path: Path) -> None:
    fill(tmp_path, [100, 200, 300])
    for step in (200, 300):
        (tmp_path / "checkpoints" / f"{step:08d}.pt").write_bytes(b"x")
    fill(tmp_path, [130], keep=1)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 130
    assert len(checkpoint.entries(tmp_path)) == 1
