"""A run's log is compared with what its checkpoints sealed."""

from pathlib import Path

import pytest
from helpers.toys import write_run

from pathtrain.reports import curves
from pathtrain.runs import log_seal
from pathtrain.runs.verify import verify_run
from pathtrain.training import logs


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "run", tmp_path)
    log_seal.write(run)
    return run


def test_rows_that_come_later_are_no_damage(run: Path) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 21, "loss": 1.0}\n')
    assert log_seal.differs(run) is None


@pytest.mark.parametrize("name", ["log.jsonl", "log.seal.json"])
def test_one_flipped_bit_is_said(run: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = (run / name).read_bytes()
    for place in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        (run / name).write_bytes(changed)
        assert log_seal.differs(run) is not None
    assert any(name in line for found in verify_run(run) for line in found.problems)
    curves.read(run)
    assert "log" in caplog.text


def test_a_damaged_row_costs_that_row(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    (run / "log.jsonl").write_bytes(b"".join([*lines[:4], b"\xff{]\n", b"[]\n", *lines[5:], b'{"cut']))
    assert [row["step"] for row in logs.rows(run)] == [*range(1, 5), *range(6, 21)]
    assert "line 5 is damaged and left out" in caplog.text


def test_older_runs_have_none(run: Path) -> None:
    log_seal.remove(run)
    assert log_seal.differs(run) is None
