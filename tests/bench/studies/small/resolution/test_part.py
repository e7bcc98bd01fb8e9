"""The trainings of part 4 and its sentences."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from small.core.config import Common, Study
from small.core.training import Job
from small.dense import nuclei
from small.resolution import part as resolution
from small.resolution import runs as resolution_runs
from small.resolution.runs import KDE, KOLEO, LARGER, LONGER, NONE, Settings
from torch import nn

from pathprep.errors import UsageError
from pathtrain.recipes.dinov2 import Dinov2Recipe
from pathtrain.recipes.load import load
from pathtrain.runs.model import LoadedModel


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, tmp_path / "work", tmp_path / "study.yaml", Common(seeds=2), {})


def _jobs(
    study: Study, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[Job]], dict[str, list[Path]]]:
    calls: list[list[Job]] = []

    def trained(study: Study, jobs: list[Job]) -> dict[str, Path]:
        calls.append(jobs)
        return {job.name: study.work / "runs" / job.name for job in jobs}

    monkeypatch.setattr(resolution_runs, "trained", trained)
    monkeypatch.setattr(resolution_runs, "pool", lambda study, purpose: study.work / purpose)
    recipe = resolution_runs.recipe_of(study, settings)
    return calls, resolution_runs.trainings(study, settings, recipe)


def _recipe(job: Job) -> Dinov2Recipe:
    found = load(job.recipe, job.settings)
    assert isinstance(found, Dinov2Recipe)
    return found


def test_arms_differ_in_what_they_are_called_after_and_nothing_else(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(steps=40, more=10)
    (first, second), runs = _jobs(study, settings, monkeypatch)
    assert list(runs) == [KDE, KOLEO, NONE, LONGER, LARGER]
    assert all(len(each) == 2 for each in runs.values())
    by_name = {job.name: _recipe(job) for job in [*first, *second]}
    plain = [by_name[f"resolution-{arm}-1"] for arm in ("kde", "koleo", "none")]
    assert [each.regulariser.kind for each in plain] == ["kde", "koleo", "none"]
    same = {each.model_copy(update={"regulariser": None}).model_dump_json() for each in plain}
    assert len(same) == 1
    assert plain[0].seed == 1
    assert plain[0].checkpoint.milestones == 10

    longer, larger = by_name["resolution-longer-1"], by_name["resolution-larger-1"]
    assert longer.model.init == larger.model.init == f"run:{study.work / 'runs' / 'resolution-kde-1'}"
    assert (longer.views.globals.size, longer.views.locals.size) == (64, 32)
    assert (larger.views.globals.size, larger.views.locals.size) == (112, 56)
    assert longer.model_copy(update={"views": None}) == larger.model_copy(update={"views": None})
    assert longer.steps == 10
    assert longer.regulariser == plain[0].regulariser
    assert longer.dino.teacher_temp.start == plain[0].dino.teacher_temp.end
    assert longer.optim.weight_decay.start == plain[0].optim.weight_decay.end


def test_a_tenth_of_the_parent_is_left_in_the_teacher() -> None:
    settings = Settings(more=50)
    assert settings.momentum**50 == pytest.approx(0.1)
    assert settings.momentum < 0.96 < 0.9995  # of the older study: .9995 ** 50 is .975
    recipe = load("midnight-tiny", resolution_runs.post_training(_tiny(), settings, Path("parent")))
    assert isinstance(recipe, Dinov2Recipe)
    assert recipe.dino.momentum.start == recipe.dino.momentum.end == pytest.approx(settings.momentum)


def _tiny() -> Dinov2Recipe:
    return cast(Dinov2Recipe, load("midnight-tiny"))


def test_a_recipe_without_a_regulariser_and_views_that_are_not_larger_are_refused(study: Study) -> None:
    with pytest.raises(UsageError, match="resolution.recipe smoke: its method is dino"):
        resolution_runs.recipe_of(study, Settings(recipe="smoke"))
    small = Study(study.data, study.work, study.config, study.common, {"resolution": {"large": 64}})
    with pytest.raises(UsageError, match="above the recipe's views, 64 px"):
        resolution.run(small)


def test_how_far_weights_moved_is_relative_to_their_length() -> None:
    def model(scale: float) -> LoadedModel:
        layer = nn.Linear(3, 2)
        with torch.no_grad():
            for weights in layer.parameters():
                weights.fill_(scale)
        return cast(LoadedModel, SimpleNamespace(module=layer))

    assert resolution.how_far(model(1.0), model(1.0)) == 0
    assert resolution.how_far(model(2.0), model(3.0)) == pytest.approx(0.5)


def test_each_question_has_a_sentence_whatever_the_answer() -> None:
    against = resolution.compared(64, 112)
    better, same = (
        {"value": 0.1, "interval": [0.05, 0.15], "clear": True, "seeds": [0.1]},
        {"value": 0.0, "interval": [-0.05, 0.05], "clear": False, "seeds": [0.0]},
    )
    larger, parent = f"{LARGER}, 112 px", f"{resolution.PARENT}, 112 px"
    rows: list[dict[str, Any]] = [
        {"figure": nuclei.TASK, "encoder": larger, "value": 0.5, "minus": {parent: better}},
        {"figure": nuclei.TASK, "encoder": KDE, "value": 0.4, "minus": {NONE: same, KOLEO: same}},
        {
            "figure": resolution.EBHI["knn"],
            "encoder": KDE,
            "value": 0.4,
            "minus": {NONE: better},
        },  # in the table
    ]
    moved, *said, last = resolution.sentences(rows, against, {LARGER: [0.2, 0.4], LONGER: [0.1]}, Settings())
    assert "moved by 30.0% of their length on larger views and by 10.0% at its own size" in moved
    level = "+0.000 [-0.050, +0.050]"
    assert said == [
        f"{nuclei.TASK}, {larger}: 0.500, above {parent} (+0.100 [+0.050, +0.150]).",
        f"{nuclei.TASK}, {KDE}: 0.400, not told apart from {NONE} ({level}), {KOLEO} ({level}).",
    ]
    assert last.startswith("Of 3 comparisons 1 are clear gains, 0 clear losses, and 2 cannot be told")
