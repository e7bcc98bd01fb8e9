"""Where a run on GPUs encodes: what is asked for, else what its dataset has, else the faster, as measured."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pathprep.errors import UsageError
from pathprep.params.shard import ShardParams
from pathprep.sharding import encoder
from pathprep.sharding.plan import prepare
from pathprep.sharding.recorded import recorded

CUDA = ShardParams(device="cuda")


def answer(monkeypatch: pytest.MonkeyPatch, cpu: float, gpu: float) -> list[Any]:
    """What the measurement says; returns what it is asked."""
    asked: list[Any] = []

    def run(command: list[str], **_options: Any) -> Any:
        asked.append(command[-3:])
        return SimpleNamespace(returncode=0, stdout=json.dumps({"cpu": cpu, "gpu": gpu}) + "\n", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_the_cores_encode_where_they_are_twice_as_fast(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They have to read the slides, too; and the cards are as many as the run uses."""
    asked = answer(monkeypatch, 20_000, 9_000)
    assert encoder.settled(CUDA, tmp_path, 1).encoder == "cpu"
    assert encoder.settled(CUDA, tmp_path, 2).encoder == "gpu"
    assert asked == [["256", "90", "420"]] * 2


def test_what_is_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(encoder, "faster", None)
    for asked in ("cpu", "gpu"):
        params = ShardParams(device="cuda", encoder=asked)
        assert encoder.settled(params, tmp_path, 1) == params
    assert encoder.settled(ShardParams(), tmp_path, 0) == ShardParams()


@pytest.mark.parametrize("first", ["cpu", "gpu"])
def test_a_dataset_keeps_the_encoder_that_it_was_begun_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: Any
) -> None:
    rates = (20_000, 1_000) if first == "cpu" else (1_000, 20_000)
    answer(monkeypatch, *rates)
    begun = encoder.settled(CUDA, tmp_path, 1)
    build = prepare(tmp_path, begun, rebuild=False)
    assert recorded(begun.as_dict()).as_dict() == begun.as_dict()
    answer(monkeypatch, *rates[::-1])  # another machine
    for cards in (1, 0, None):
        again = encoder.settled(CUDA, tmp_path, cards)
        assert again.encoder == first
        assert prepare(tmp_path, again, rebuild=False) == build


def test_without_a_card_here_the_cards_elsewhere_encode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(encoder, "faster", None)
    assert encoder.settled(CUDA, tmp_path, 0).encoder == "gpu"
    assert encoder.settled(CUDA, tmp_path, None).encoder == "auto"


def test_datasets_of_before_keep_their_build_id() -> None:
    for params in (
        ShardParams(),
        CUDA,
        ShardParams(device="cuda", encoder="gpu"),
        ShardParams(encoder="cpu"),
    ):
        assert "encoder" not in params.as_dict()
    assert ShardParams(device="cuda", encoder="cpu").as_dict()["encoder"] == "cpu"


def test_a_card_that_is_not_used_cannot_encode() -> None:
    with pytest.raises(UsageError, match="`encoder` gpu needs `gpus`"):
        ShardParams(encoder="gpu")


def test_a_measurement_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no card >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(encoder.sys, "executable", str(program))
    with pytest.raises(UsageError, match=r"exit code 3 \(no card\); say `encoder` gpu or cpu"):
        encoder.settled(CUDA, tmp_path, 1)
