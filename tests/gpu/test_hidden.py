"""Tests that are not marked gpu, and what they start, see no card."""

import os
import subprocess
import sys

import pytest
from helpers.cards import HIDE, WORKER, asked_for, visible

CARDS = "import torch; print(torch.cuda.device_count())"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], False),
        (["tests/kernels"], False),
        (["-n", "3", "-m", "not slow and not gpu and not chaos"], False),
        (["-m", "gpu", "tests/kernels"], True),
        (["-q", "-mgpu"], True),
        (["-m", "gpu and not realdata"], True),
        (["-m", "not slow and gpu"], True),
        (["-m", "gpu", "-m", "slow"], False),
        (["tests", "-k", "gpu"], False),
    ],
)
def test_tests_marked_gpu_are_asked_for_by_their_mark(arguments: list[str], asked: bool) -> None:
    assert asked_for(arguments) is asked
    assert visible(arguments, {}) == ({} if asked else {HIDE: ""})


def test_a_worker_keeps_what_the_first_process_left() -> None:
    assert visible(["-c"], {WORKER: "gw0"}) == {}


def test_no_card_is_seen_here_nor_by_a_child() -> None:
    assert os.environ[HIDE] == ""
    done = subprocess.run([sys.executable, "-c", CARDS], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
