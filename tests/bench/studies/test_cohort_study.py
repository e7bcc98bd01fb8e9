"""What the study of slide labels makes of predictions; its trainings are those of the commands."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pathtrain.data.slide_labels import LabelTask, SlideLabels
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load

BENCH = Path(__file__).parents[3] / "bench" / "studies"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "cohort_study", raising=False)
    return importlib.import_module("cohort_study")


def labels() -> SlideLabels:
    """Eight slides; of the last two the second task is unknown."""
    tasks = (LabelTask("organ", ("colon", "lung")), LabelTask("kind", ("a", "b")))
    values = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [1, 0], [1, 1], [1, -1], [1, -1]])
    return SlideLabels(Path("labels.csv"), tasks, tuple(f"s{n}" for n in range(8)), values, ("test",) * 8)


def said(right: bool) -> list[np.ndarray]:
    """Predictions that are right, or the wrong way round."""
    values = np.maximum(labels().values, 0).T
    second = values if right else 1 - values
    return [np.stack([1.0 - p, p], axis=1) for p in second.astype(float)]


def test_cases_differ_in_what_they_say_alone(study: ModuleType) -> None:
    def made(case: str) -> list[dict[str, Any]]:
        recipe = load(study.RECIPE, study.overrides(case, 3, 7))
        assert isinstance(recipe, HierarchicalRecipe)
        assert recipe.seed == 3
        return [phase.model_dump() for phase in recipe.hierarchy.phases]

    trained, frozen = made(study.END_TO_END), made(study.FROZEN)
    assert [trained[0]["slide"].pop("stage1"), frozen[0]["slide"].pop("stage1")] == ["trained", "frozen"]
    assert trained == frozen
    assert trained[0]["tile"] is trained[0]["region"] is None
    assert [phase["steps"] for phase in made(study.CURRICULUM)] == [7, 7]


def test_draws_keep_every_combination_of_labels(study: ModuleType) -> None:
    rows = study.drawn(labels(), np.random.default_rng(0))
    values = labels().values
    assert sorted(map(tuple, values[rows].tolist())) == sorted(map(tuple, values.tolist()))
    assert len({tuple(study.drawn(labels(), np.random.default_rng(n)).tolist()) for n in range(20)}) > 1


def test_scores_differences_and_the_table(study: ModuleType) -> None:
    half = [np.full((8, 2), 0.5)] * 2
    results = {
        study.END_TO_END: [said(True), said(True)],
        study.FROZEN: [said(False), half],
        study.STORED: [said(True)],
    }
    found = study.summary(results, labels())["auroc"]
    assert found["kind"] == {study.END_TO_END: [1, 1], study.FROZEN: [0, 0.5], study.STORED: [1]}
    gaps = study.differences(results, labels(), 20)
    assert gaps[study.FROZEN][study.MEAN] == {"seeds": [1, 0.5], "mean": 0.75, "interval": [0.75, 0.75]}
    assert gaps[study.STORED]["organ"]["seeds"] == [0, 0]
    assert study.verdict(gaps) == [
        "- End to end against frozen stage 1: above it in organ (beyond the interval), kind (beyond the "
        "interval), mean over tasks (beyond the interval).",
        "- End to end against colour as stored: equal to it in organ, kind, mean over tasks.",
    ]
    text = study.markdown(
        {
            "scores": study.summary(results, labels()),
            "differences": gaps,
            "slides": {"organ": 8, "kind": 6},
            "seconds": {study.END_TO_END: [60.0, 70.0]},
            "seeds": 2,
        }
    )
    assert "| kind | 6 | 1.000 [1.000, 1.000] | 0.250 [0.000, 0.500] | 1.000 |" in text
    assert "+0.750 [+0.750, +0.750], 2 / 0 |" in text
    json.dumps(gaps)
