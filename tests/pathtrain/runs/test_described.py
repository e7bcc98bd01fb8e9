"""A run's own files: one flipped bit in them is found, and what older runs have is read."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.toys import write_run

from pathprep.stain import Target
from pathtrain.errors import CheckpointError, ModelError, RecipeError, TrainError
from pathtrain.recipes.load import dump, load
from pathtrain.runs import checkpoint, described
from pathtrain.runs.opening import load as load_model
from pathtrain.stain.target import ModelTarget, of_run

INFO = {"dataset": "/data/set", "identity": {"dataset tiles": 7, "seed": 1}, "slides": 3, "versions": {}}
RECIPE = load("smoke", ["stain.mode=normalize"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    described.write(tmp_path / "run", RECIPE, INFO)
    goal = Target.default()
    ModelTarget.model_validate({"name": goal.name, **goal.as_params()}).save(tmp_path / "run")
    return tmp_path / "run"


def test_both_are_read_as_they_were_written(run: Path) -> None:
    assert described.recipe_of(run) == RECIPE == load(run / "recipe.yaml")
    assert described.info_of(run) == described.info_of(run) | INFO
    assert of_run(run, RECIPE) is not None


@pytest.mark.parametrize("name", ["run.json", "recipe.yaml", "target.json"])
def test_no_flipped_bit_is_taken(run: Path, name: str) -> None:
    whole = (run / name).read_bytes()
    for place in range(0, len(whole), 1 if name != "recipe.yaml" else 7):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        (run / name).write_bytes(changed)
        with pytest.raises((TrainError, RecipeError), match=f"{name}"):
            described.info_of(run), described.recipe_of(run), of_run(run, RECIPE)
    for end in range(0, len(whole), 97):
        (run / name).write_bytes(whole[:end])
        with pytest.raises((TrainError, RecipeError)):
            described.info_of(run), described.recipe_of(run), of_run(run, RECIPE)


def test_a_recipe_that_was_changed_says_how_it_comes_back(run: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("depth: 4", "depth: 5"))
    with pytest.raises(RecipeError, match="changed since the run wrote it .*command writes it again"):
        described.recipe_of(run)
    described.mend(run, RECIPE)
    assert described.recipe_of(run) == RECIPE


def test_an_edited_copy_is_a_recipe(run: Path, tmp_path: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("depth: 4", "depth: 5"))
    assert load(tmp_path / "mine.yaml").model.kwargs["depth"] == 5


def test_older_runs_have_no_seals(run: Path) -> None:
    (run / "run.json").write_text(json.dumps(INFO))
    (run / "recipe.yaml").write_text(dump(RECIPE))
    assert described.recipe_of(run) == RECIPE
    assert described.info_of(run) == INFO


@pytest.mark.parametrize("content", [b"[]", b"3", b"{", b"[" * 100_000, b'{"identity": 3}', b"\xff"])
def test_run_json_of_any_bytes(run: Path, content: bytes) -> None:
    (run / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
        described.info_of(run)


def test_a_flipped_checkpoint_entry_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = write_run(tmp_path / "run", tmp_path)
    path = run / "checkpoints" / "00000020.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert checkpoint.entries(run) == []
    assert "is damaged; its checkpoint is not used" in caplog.text


def test_an_entry_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tmp_path)
    other = shutil.copy(run / "checkpoints" / "00000020.pt", tmp_path / "00000020.pt")
    path = run / "checkpoints" / "00000020.json"
    entry = {
        key: value for key, value in json.loads(path.read_text()).items() if key not in ("seal", "version")
    }
    path.write_text(json.dumps(entry | {"file": str(other)}))
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        load_model(run)


def test_a_target_that_is_gone_or_changed(run: Path) -> None:
    values = json.loads((run / "target.json").read_text())
    (run / "target.json").write_text(json.dumps(values | {"max_c": [1.0, 1.0]}))
    with pytest.raises(ModelError, match="target.json: gone or damaged"):
        of_run(run, RECIPE)
