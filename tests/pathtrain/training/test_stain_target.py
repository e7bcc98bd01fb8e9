"""Runs that normalise: they keep their target, and are refused with another."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.training import assert_same_to_the_bit, train

from pathprep import stain
from pathtrain.errors import CheckpointError, RecipeError, TrainError
from pathtrain.runs import checkpoint

NORMALISED = ("stain.mode=normalize", "stain.concentration=0.2", "stain.angle=4", "steps=8")


def test_a_run_keeps_its_target_and_goes_on_without_the_file(
    stained: Callable[..., Path], target: stain.Target, tmp_path: Path
) -> None:
    """Killed after step 5, and the file that the recipe names is gone: the same to the bit."""
    data, file = stained("fit"), tmp_path / "t.json"
    target.save(file)
    settings = (*NORMALISED, f"stain.target={file}")
    train(data, tmp_path / "straight", *settings)
    train(data, tmp_path / "run", *settings)
    for path in checkpoint.folder(tmp_path / "run").glob("00000008.*"):
        path.unlink()
    file.unlink()
    assert train(data, tmp_path / "run", *settings)[0].resumed_from == 5
    assert_same_to_the_bit(tmp_path / "run", tmp_path / "straight")
    kept = stain.Target.load(tmp_path / "run" / "target.json")
    assert (kept.he.tolist(), kept.max_c.tolist()) == (target.he.tolist(), target.max_c.tolist())
    with pytest.raises(RecipeError, match=r"stain.target: .*t.json: No such file"):
        train(data, tmp_path / "run", *settings, fresh=True)
    assert (tmp_path / "run" / "run.json").exists()
    assert not (tmp_path / "run.old-1").exists()


def test_another_target_is_refused_and_the_same_in_another_place_is_not(
    stained: Callable[..., Path], target: stain.Target, tmp_path: Path
) -> None:
    data, run = stained("fit"), tmp_path / "run"
    for name in ("a", "b"):
        target.save(tmp_path / f"{name}.json")
    train(data, run, *NORMALISED, f"stain.target={tmp_path / 'a.json'}")
    assert train(data, run, *NORMALISED, f"stain.target={tmp_path / 'b.json'}")[0].loss is None
    with pytest.raises(CheckpointError, match=r"stain.target.he was \[\[.* stain.target.max_c was"):
        train(data, run, *NORMALISED)
    with pytest.raises(CheckpointError, match=r"stain.angle was 4.0, is 0.0"):
        train(data, run, "steps=8")


def test_datasets_that_do_not_serve_the_stain_mode_leave_no_run(
    dataset: Path, stained: Callable[..., Path], target: stain.Target, tmp_path: Path
) -> None:
    with pytest.raises(TrainError, match="normalised, to another target"):
        train(stained("bake", target), tmp_path / "run", *NORMALISED)
    with pytest.raises(TrainError, match="are not normalised"):
        train(dataset, tmp_path / "run", "stain.expect=normalised")
    with pytest.raises(TrainError, match="no stain fits"):
        train(dataset, tmp_path / "run", *NORMALISED)
    assert not (tmp_path / "run").exists()
