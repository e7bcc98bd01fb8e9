"""Encoders kept on the way: complete, once, and models like any other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toys import TINY, noise, write_dataset

from pathtrain.recipes.load import load
from pathtrain.reports.page import report
from pathtrain.runs import checkpoint, milestones, model_folder
from pathtrain.runs import opening as models
from pathtrain.training.pretrain import pretrain

SETTINGS = (*TINY, "steps=6", "batch=6", "checkpoint={every: 3, keep: 1, milestones: 2}")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(
        tmp_path_factory.mktemp("kept") / "dataset", {"a": noise(9, 48), "b": noise(9, 48, seed=1)}
    )


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "run"
    pretrain(dataset, load("smoke", SETTINGS), folder)
    return folder


def kept(run: Path) -> dict[int, str]:
    return {step: models.load(path).fingerprint for step, path in milestones.entries(run)}


def test_they_stay_and_are_models(run: Path, dataset: Path, tmp_path: Path) -> None:
    assert [step for step, _ in milestones.entries(run)] == [2, 4, 6]
    assert [entry.step for entry in checkpoint.entries(run)] == [6]
    last, whole = models.load(run / "encoders" / "step-0000006"), models.load(run)
    assert (last.fingerprint, last.step, last.slides) == (whole.fingerprint, 6, whole.slides)
    tiles = np.stack(noise(4))
    assert np.array_equal(last(tiles), whole(tiles))
    assert len(set(kept(run).values())) == 3
    # as a run that was made no longer than the milestone has it
    pretrain(
        dataset, load("smoke", [*SETTINGS, "dino.momentum.end=0.99", "optim.min_lr=0.0003"]), tmp_path / "six"
    )
    short = [
        *SETTINGS,
        "dino.momentum.end=0.99",
        "optim.min_lr=0.0003",
        "steps=4",
        "checkpoint.milestones=null",
    ]
    pretrain(dataset, load("smoke", short), tmp_path / "four")
    assert kept(tmp_path / "six")[4] == models.load(tmp_path / "four").fingerprint
    assert not (tmp_path / "four" / "encoders").exists()


def test_a_resume_makes_again_what_came_after_its_checkpoint(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "run", milestones.save

    def killed(*arguments: object) -> None:
        if arguments[3] == 6:
            raise KeyboardInterrupt
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(milestones, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(dataset, load("smoke", SETTINGS), folder)
    assert [entry.step for entry in checkpoint.entries(folder)] == [3]
    assert list(kept(folder)) == [2, 4]
    (folder / "encoders" / "step-0000005").mkdir()  # of other steps, once
    monkeypatch.undo()
    assert pretrain(dataset, load("smoke", SETTINGS), folder).resumed_from == 3
    assert kept(folder) == kept(run)
    assert sorted(path.name for path in (folder / "encoders").iterdir()) == [
        "step-0000002", "step-0000004", "step-0000006"
    ]  # fmt: skip


def test_a_kill_while_one_is_written_leaves_no_half_one(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_folder, "write_sealed", killed)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # a kill tidies nothing up
    with pytest.raises(KeyboardInterrupt):
        pretrain(dataset, load("smoke", SETTINGS), folder)
    (left,) = (folder / "encoders").iterdir()
    assert left.name.startswith(".tmp-")
    assert left.name.endswith("~new~step-0000002")
    assert milestones.entries(folder) == []
    monkeypatch.undo()
    pretrain(dataset, load("smoke", SETTINGS), folder)
    assert list(kept(folder)) == [2, 4, 6]
    assert not list((folder / "encoders").glob(".*"))


def test_what_a_user_keeps_in_one_stays_when_it_is_made_again(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pretrain(dataset, load("smoke", SETTINGS), folder)
    notes = folder / "encoders" / "step-0000006" / "notes.txt"
    notes.write_text("the best of all")
    milestones.forget(folder, 3)
    assert list(kept(folder)) == [2]
    assert notes.read_text() == "the best of all"


def test_writing_one_moves_no_random_number(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = models.load(run).module.state_dict()
    before = torch.random.get_rng_state()
    milestones.save(tmp_path / "run", load(run / "recipe.yaml"), weights, 8)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_page_lists_them(run: Path, tmp_path: Path) -> None:
    page = report(run, tmp_path / "page.html").read_text()
    assert f"{run}/encoders/step-0000004" in page
