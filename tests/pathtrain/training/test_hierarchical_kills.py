"""Three stages trained by the command itself: killed in either phase, started again, on one rank and two."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hierarchies import FIRST, SECOND, SMALL, write_labels, write_slides
from helpers.toys import moved

from pathtrain.runs import checkpoint
from pathtrain.training.logs import rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
EACH = 20  # steps of a phase: more than go by between two looks at the log
PHASES = re.sub(r"steps: \d+", f"steps: {EACH}", f"[{FIRST}, {SECOND}]")
SETTINGS = (*SMALL, f"hierarchy.phases={PHASES}", "checkpoint.every=3")
# ranks draw their own dropout: without it, two give what one gives
PLAIN = (
    "hierarchy.stage2={dim: 16, depth: 1, heads: 2}",
    "hierarchy.stage3={dim: 16, depth: 1, heads: 2}",
    "dino.drop_path=0",
)
TIMES = ("images_s", "data_wait", "seconds_step")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Slides of 1 to 40 tiles, and their labels."""
    folder = tmp_path_factory.mktemp("inputs")
    more = {"one": 1, "many": 40}
    return write_slides(folder / "dataset", more), write_labels(folder / "labels.csv", tuple(more))


def start(inputs: tuple[Path, Path], run: Path, *more: str, ranks: int = 1) -> subprocess.Popen[str]:
    dataset, labels = inputs
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = ["-m", "pathtrain", "pretrain", str(dataset), "--labels", str(labels), "--out", str(run)]
    settings = [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, *(launcher if ranks > 1 else []), *command, "--recipe=exaonepath2-tiny", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        out, _ = process.communicate(timeout=500)
    except subprocess.TimeoutExpired:
        end(process)
        raise
    assert process.returncode == 0, out
    return " ".join(out.split())


def kill(process: subprocess.Popen[str], run: Path, step: int, wait: float) -> int:
    """Every process of it, ``wait`` seconds after ``step``; returns the last step that was logged."""
    while process.poll() is None and (not rows(run) or rows(run)[-1]["step"] < step):
        time.sleep(0.005)
    time.sleep(wait)
    assert process.poll() is None, process.communicate()[0]
    end(process)
    last: int = rows(run)[-1]["step"]
    return last


def end(process: subprocess.Popen[str]) -> None:
    """SIGKILL to it and to all that it has started."""
    for number in family(process.pid):
        os.kill(number, signal.SIGKILL)
    process.communicate(timeout=60)


def family(parent: int) -> list[int]:
    """A process and its descendants; torchrun gives its children sessions of their own."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *(number for child in children for number in family(int(child)))]


def killed_in_both_phases(
    inputs: tuple[Path, Path], run: Path, seed: int, *more: str, ranks: int = 1
) -> None:
    """A run that was killed at a random step of each phase, and ended."""
    rng = random.Random(seed)
    for phase in (1, 2):
        step = EACH * (phase - 1) + rng.randrange(2, EACH // 2)
        last = kill(start(inputs, run, *more, ranks=ranks), run, step, rng.random() * 0.05)
        assert rows(run)[-1]["phase"] == phase
        assert step <= last < EACH * phase, "not at the end of the phase"
    resumed = max(entry.step for entry in checkpoint.entries(run))
    assert EACH <= resumed <= last
    assert f"resuming at step {resumed} of {2 * EACH}" in finish(start(inputs, run, *more, ranks=ranks))


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load(run)
    assert state["step"] == 2 * EACH
    return {
        f"{network} {part} {name}": tensor
        for network in ("student", "teacher")
        for part, found in state[network].items()
        for name, tensor in found.items()
    }


def logged(run: Path) -> list[dict[str, Any]]:
    """The rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows(run)]


@pytest.fixture(scope="module")
def straight(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    finish(start(inputs, run))
    return run


@pytest.mark.parametrize("seed", range(2))
def test_killed_in_both_phases_is_the_same_to_the_bit(
    inputs: tuple[Path, Path], straight: Path, tmp_path: Path, seed: int
) -> None:
    run = tmp_path / "run"
    killed_in_both_phases(inputs, run, seed)
    mine, theirs = weights(run), weights(straight)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    assert logged(run) == logged(straight)


def test_two_ranks_killed_in_both_phases_are_one(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Their slides have different numbers of tiles."""
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(inputs, one, *PLAIN))
    killed_in_both_phases(inputs, two, 2, *PLAIN, ranks=2)
    mine, theirs = weights(two), weights(one)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.allclose(moved(name, tensor), moved(name, theirs[name]), rtol=1e-3, atol=3e-5), name
    for row, expected in zip(rows(two), rows(one), strict=True):
        for key in {"step", "phase", "loss", "tile_loss", "region_loss", "slide_loss"} & expected.keys():
            assert row[key] == pytest.approx(expected[key], rel=1e-4), (key, row["step"])
