"""Runs straight from slides: begun, killed, gone on with, started over; what a user is told."""

import json
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import deadly_slides
from helpers.surveyed import ONLINE, survey
from helpers.training import STEPS, assert_same_to_the_bit, command, logged, train

import pathprep
from pathprep.errors import DatasetError, NoDatasetError, UsageError
from pathtrain.data.online import pool as pools
from pathtrain.errors import CheckpointError
from pathtrain.reports.page import report
from pathtrain.runs import checkpoint
from pathtrain.training.logs import Row, rows

PROBES = "probes=[{kind: collapse, every: 12, slides: 2, tiles: 4}, {kind: rank, every: 12, tiles: 12}]"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("online"), ("a", "b", "c", "d", "e"))


@pytest.fixture(scope="module")
def straight(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("straight") / "run"
    train(made, run, *ONLINE, PROBES)
    return run


def test_what_a_run_says_and_keeps(made: Path, straight: Path, tmp_path: Path) -> None:
    _, said = train(made, tmp_path / "run", *ONLINE, PROBES, "steps=2")
    assert "tiles are drawn from 3 slides" in said
    assert "67% at 0.5 MPP, 33% at 1 MPP" in said
    assert re.search(r"held out for the collapse score: 2 slides, about \d+ of \d+ tiles\n", said)
    assert re.search(r"\nabout \d+ tiles of .*survey: 2 steps into ", f"\n{said}")
    assert "probe collapse: 8 tiles drawn from 2 slides" in said
    assert "probe rank: 12 tiles drawn from" in said
    info = json.loads((straight / "run.json").read_text())
    assert info["dataset"] == str(made)
    assert info["slides"] == 3
    identity = info["identity"]
    assert identity["online.tile"] == 64
    assert not {"online.readers", "online.timeout", "online.max_bad_slides"} & identity.keys()
    found = rows(straight)
    assert {"collapse_excess", "rank_effective"} <= found[0].keys()
    assert found[-1]["step"] == STEPS


@pytest.mark.parametrize("step", [5, 15])
def test_resumed_from_any_checkpoint_is_the_same_to_the_bit(
    made: Path, straight: Path, tmp_path: Path, step: int
) -> None:
    run = tmp_path / "run"

    class Killed(Exception):
        pass

    def watch(done: int, total: int, row: Row | None) -> None:
        if done == step + 3:
            raise Killed

    from helpers.training import SETTINGS

    from pathtrain.recipes.load import load
    from pathtrain.training.pretrain import pretrain

    with pytest.raises(Killed):
        pretrain(made, load("smoke", [*SETTINGS, *ONLINE, PROBES]), run, watch=watch)
    summary, _ = train(made, run, *ONLINE, PROBES, "online.readers=1")
    assert summary.resumed_from == step
    assert_same_to_the_bit(run, straight)
    assert logged(run) == logged(straight)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_random_moments_and_resumed_is_the_same_to_the_bit(
    made: Path, straight: Path, tmp_path: Path
) -> None:
    run, rng = tmp_path / "run", random.Random(0)
    settings = [part for setting in (*ONLINE, PROBES) for part in ("--set", setting)]
    kills = 0
    for _ in range(2):
        process = subprocess.Popen([*command(made, run), *settings], stdout=subprocess.DEVNULL)
        begun = len(rows(run))
        while process.poll() is None and len(rows(run)) <= begun:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.3)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills
    subprocess.run([*command(made, run), *settings], check=True, capture_output=True, text=True)
    assert_same_to_the_bit(run, straight)
    assert logged(run) == logged(straight)


def test_a_slide_that_dies_under_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, recorded, and the same to the bit when the run is taken up, though the slide has recovered."""
    monkeypatch.setattr(pools, "serve", deadly_slides.serve)
    root, few = survey(tmp_path, ("a", "b", "crash-late")), (*ONLINE, "steps=12", "checkpoint.every=4")
    _, said = train(root, tmp_path / "straight", *few)
    assert "dropped slide crash-late: the process that read it died (signal 6)" in said
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "straight", run)
    for path in (run / "checkpoints").glob("*12*"):
        path.unlink()
    monkeypatch.undo()
    summary, said = train(root, run, *few)
    assert summary.resumed_from == 8
    assert "1 slide dropped before, which do not come (dropped/): crash-late" in said
    assert "died" not in said
    assert_same_to_the_bit(run, tmp_path / "straight")
    assert "1: crash-late: the process that read it died (signal 6)" in report(run).read_text()


def test_a_folder_of_slides_is_surveyed_once(made: Path, tmp_path: Path) -> None:
    slides, run = made.parent / "slides", tmp_path / "run"
    few = (*ONLINE, "steps=4", "checkpoint.every=2")
    _, said = train(slides, run, *few)
    assert f"{slides}: surveying slides into {run}/survey, once" in said
    assert (run / "survey" / "survey.json").is_file()
    shutil.copytree(slides, tmp_path / "slides")
    shutil.copy(slides / "a.tif", tmp_path / "slides" / "new.tif")
    _, said = train(tmp_path / "slides", run, *few)  # the run has begun: its own survey counts
    assert "finished, 4 of 4 steps" in said
    _, said = train(slides, run, *few, fresh=True)
    assert "the old run is now" in said
    assert (tmp_path / "run.old-1" / "survey").is_dir()
    assert checkpoint.latest(run) is not None
    # the same as from a survey of one's own
    train(made, tmp_path / "other", *few)
    assert_same_to_the_bit(run, tmp_path / "other")


def test_another_survey_is_refused(made: Path, straight: Path, tmp_path: Path) -> None:
    root = tmp_path / "survey"
    pathprep.survey(made.parent / "slides" / "a.tif", root, workers=1)
    run = shutil.copytree(straight, tmp_path / "run")
    with pytest.raises(CheckpointError, match="dataset slides was"):
        train(root, run, *ONLINE)
    with pytest.raises(CheckpointError, match=r"online\.min_tissue was 0\.4, is 0\.2"):
        train(made, run, *ONLINE, PROBES, "online.min_tissue=0.2")


def test_a_survey_at_another_place_is_the_same(made: Path, straight: Path, tmp_path: Path) -> None:
    run, root = shutil.copytree(straight, tmp_path / "run"), shutil.copytree(made, tmp_path / "survey")
    summary, _ = train(root, run, *ONLINE, PROBES)
    assert summary.resumed_from == STEPS


def test_the_report_shows_the_first_tiles(straight: Path, tmp_path: Path) -> None:
    run = shutil.copytree(straight, tmp_path / "run")
    page = report(run).read_text()
    assert "MPP" in page
    assert re.search(r"<td>about \d+</td>|about \d+", page)
    assert "The views cannot be shown" not in page
    assert page.count("data:image/jpeg") >= 12
    assert not (run / "dropped").exists()


def test_errors_as_a_new_user_meets_them(made: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(NoDatasetError):
        train(tmp_path / "nothing", tmp_path / "r", *ONLINE)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.svs").write_bytes(b"no slide")
    with pytest.raises(DatasetError, match="none of 1 slide can be used"):
        train(tmp_path / "bad", tmp_path / "r1", *ONLINE)
    with pytest.raises(UsageError, match="gives tiles of 64 px at 0.01 MPP"):
        train(made, tmp_path / "r2", *ONLINE, "sampling.mpps={0.01: 1}")
    with pytest.raises(DatasetError, match="an empty survey"):
        root = tmp_path / "empty"
        pathprep.survey(tmp_path / "bad", root, workers=1)
        train(root, tmp_path / "r3", *ONLINE)
