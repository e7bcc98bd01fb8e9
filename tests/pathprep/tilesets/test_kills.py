"""An import that is killed at any moment, or that two run at once, ends in the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import runs
from helpers.jpegs import told
from helpers.tilesets import sound, tile

TOOL = [sys.executable, "-m", "pathprep", "import-tiles"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kills") / "set"
    for number in range(120):
        path = root / "xy"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(told(tile(number, 64)))
    (root / "x" / "bad.jpg").write_bytes(b"\xff\xd8 no")
    return root


def contents(out: Path) -> dict[str, Any]:
    """Every file but the command's own, which says where it wrote to."""
    return {name: data for name, data in runs.contents(out).items() if name != "import-tiles.yaml"}


def command(source: Path, out: Path) -> list[str]:
    return [*TOOL, str(source), "--out", str(out), "--tiles-per-shard", "10", "--workers", "2"]


@pytest.fixture(scope="module")
def whole(source: Path) -> dict[str, Any]:
    out = source.parent / "whole"
    assert subprocess.run(command(source, out), capture_output=True, check=False).returncode == 1  # bad.jpg
    return contents(out)


@pytest.mark.slow
def test_kills_leave_the_same_bytes(source: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    chance, killed = random.Random(0), 0
    for number in range(3):
        out = tmp_path / f"out{number}"
        for _ in range(3):
            run = subprocess.Popen(
                command(source, out),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            wait_for(out, chance.randint(1, 25))
            time.sleep(chance.random() / 5)
            killed += run.poll() is None
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        done = subprocess.run(command(source, out), capture_output=True, check=False)
        assert done.returncode == 1, done.stderr
        assert contents(out) == whole
        assert not list(out.rglob(".tmp-*"))
        assert sound(out)
    assert killed >= 3


def wait_for(out: Path, files: int) -> None:
    """Until so many files are there, so that a kill hits the work, not the start."""
    end = time.monotonic() + 30
    while time.monotonic() < end and sum(1 for path in out.rglob("*") if path.is_file()) < files:
        time.sleep(0.01)


@pytest.mark.slow
def test_two_imports_at_once_leave_the_same_bytes(
    source: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    both = [
        subprocess.Popen(command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [run.communicate()[1].decode() for run in both]
    assert [run.returncode for run in both] == [1, 1], said
    assert contents(out) == whole
    assert sound(out)
