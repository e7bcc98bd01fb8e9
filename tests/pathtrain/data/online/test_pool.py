"""Processes that read slides outlive slides that crash, hang or fail; each is put down to its slide."""

import os
import signal
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import deadly_slides
from helpers.surveyed import survey

from pathprep.surveys.folder import Survey
from pathtrain.data.online import pool as pools
from pathtrain.data.online.pool import Failed, ReaderPool
from pathtrain.data.online.slide_reader import Drawn, Rules
from pathtrain.data.online.worker import Job

RULES = Rules(seed=1, tile=64, min_tissue=0.4, hsv=0.0, tries=1)
NAMES = ("a", "b", "crash", "fail", "hang", "crash-late")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey(survey(tmp_path_factory.mktemp("pool"), NAMES))


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "serve", deadly_slides.serve)


def answers(made: Survey, names: str | tuple[str, ...], readers: int = 1, timeout: float = 60) -> list[Any]:
    """Of a job for each name, all handed over at once; pixels are checked to have come."""
    pool = ReaderPool(made.root, made.contents, RULES, readers, timeout)
    try:
        pixels = np.zeros((len(names), 64, 64, 3), np.uint8)
        jobs = [Job(number, 0, name, 0.5) for number, name in enumerate(names)]
        waiting = [pool.submit(job, out) for job, out in zip(jobs, pixels, strict=True)]
        found = [future.result(timeout=120) for future in waiting]
    finally:
        pool.close()
    for answer, out in zip(found, pixels, strict=True):
        assert bool(out.any()) == isinstance(answer, Drawn)
    return found


def test_any_number_of_readers_gives_the_same(made: Survey) -> None:
    names = ("a", "b") * 6
    assert answers(made, names, 1) == answers(made, names, 3)


@pytest.mark.usefixtures("deadly")
def test_a_crash_costs_its_slide_and_no_other(made: Survey) -> None:
    found = answers(made, ("a", "crash", "b", "crash", "a", "fail", "b"))
    kinds = [type(answer) for answer in found]
    assert kinds == [Drawn, Failed, Drawn, Failed, Drawn, Failed, Drawn]
    assert found[1].reason == found[3].reason == "the process that read it died (signal 6)"
    assert found[5].reason == "fail: cannot be read there"


@pytest.mark.usefixtures("deadly")
def test_what_came_before_a_crash_is_kept(made: Survey) -> None:
    found = answers(made, ("crash-late",) * 5)
    assert [type(answer) for answer in found] == [Drawn, Drawn, Failed, Failed, Failed]


@pytest.mark.usefixtures("deadly")
def test_a_slide_that_hangs(made: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "GRACE_S", 5.0)
    found = answers(made, ("a", "hang", "b", "hang"), timeout=1.0)
    assert [type(answer) for answer in found] == [Drawn, Failed, Drawn, Failed]
    assert found[1].reason == "gave no tile within online.timeout=1 s"


def test_a_process_that_is_killed_while_idle_costs_nothing(made: Survey) -> None:
    pool = ReaderPool(made.root, made.contents, RULES, 1, 60)
    out = np.zeros((64, 64, 3), np.uint8)
    try:
        first = pool.submit(Job(0, 0, "a", 0.5), out).result(timeout=60)
        os.kill(pool._readers[0]._process.pid, signal.SIGKILL)
        time.sleep(0.1)
        again = pool.submit(Job(0, 0, "a", 0.5), out).result(timeout=60)
    finally:
        pool.close()
    assert first == again
    assert pool.bad == {}


def test_what_is_left_at_the_end_is_cancelled(made: Survey) -> None:
    pool = ReaderPool(made.root, made.contents, RULES, 1, 60)
    out = np.zeros((64, 64, 3), np.uint8)
    waiting = [pool.submit(Job(number, 0, "a", 0.5), out) for number in range(200)]
    pool.close()
    with pytest.raises(CancelledError):
        waiting[-1].result(timeout=10)
    assert pool._readers[0]._process is None


def test_readers_load_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; import pathtrain.data.online.worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
