"""What the study of slide labels trains, and what it makes of predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small.core.config import Common, Study
from small.core.tiles import CHOICE, TestGroups
from small.slide_labels import part as slide_labels
from small.slide_labels.arms import (
    DINO,
    DINO_FROZEN,
    DINO_TRAINED,
    RANDOM_FROZEN,
    RANDOM_TRAINED,
    TRAINED,
    TrainingSettings,
    classes,
    dino_job,
    job,
    pooled,
    regression,
)
from small.slide_labels.cohort import FOLDS, TASKS
from small.slide_labels.scores import MEAN, plain, scored, sentences, side, table, verdict

from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load

SLIDES = [
    {
        "slide_id": f"s{number:02d}",
        "fold": str(number % FOLDS),
        "diagnosis": "",
        "malignancy": ("normal", "tumour")[number // FOLDS % 2],
        "lung_subtype": ("lung_aca", "lung_n", "lung_scc", "")[number // FOLDS % 4],
    }
    for number in range(60)
]


def said(strength: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Predictions that know the classes so well: 0 not at all."""
    rng, found = np.random.default_rng(seed), {}
    for task, kinds in classes(SLIDES).items():
        truth = np.array([[row[task] == kind for kind in kinds] for row in SLIDES], float)
        scores = np.exp(strength * truth + rng.normal(size=truth.shape))
        found[task] = scores / scores.sum(axis=1, keepdims=True)
    return found


def flat() -> dict[str, np.ndarray]:
    """Predictions that are the same for every slide."""
    return {task: np.full((60, len(kinds)), 1 / len(kinds)) for task, kinds in classes(SLIDES).items()}


def test_a_planted_effect_is_found_and_none_is_not() -> None:
    claims = (
        ("good", "bad", "Good beats bad"),
        ("bad", "good", "Bad beats good"),
        ("good", "twin", "Good beats its twin"),
    )
    arms = {"good": [said(4)], "twin": [said(4)], "bad": [said(0, seed=1)], "none": [flat()]}
    found = scored(arms, SLIDES, classes(SLIDES), claims)
    values = {(row["arm"], row["task"], row["score"]): row for row in found["rows"]}
    assert values["good", MEAN, "auroc"]["value"] > 0.95
    low, high = values["bad", MEAN, "auroc"]["interval"]
    assert low < 0.5 < high
    assert values["none", MEAN, "auroc"]["value"] == 0.5
    lines = sentences(found, claims, "none")
    assert [line.split(": ")[1].split(" (")[0] for line in lines] == [
        "holds",
        "does not hold, the reverse does",
        "not shown",
        "holds",
    ]
    assert len(table(found, "auroc")) == 2 + len(arms)
    # a baseline that must know nothing, and knows the classes
    assert "does not hold" in sentences(found, claims, "good")[-1]


def test_figures_are_means_over_folds_of_what_one_model_ranks() -> None:
    # each fold's model is right, and its level is another: ranked together they would not be
    level = np.array([int(row["fold"]) for row in SLIDES]) / 10
    second = level + 0.05 * np.array([row["malignancy"] == "tumour" for row in SLIDES])
    given = {"malignancy": np.stack([1 - second, second], axis=1)}
    kinds = {"malignancy": ["normal", "tumour"]}
    found = scored({"one": [given]}, SLIDES, kinds, ())
    assert found["rows"][0]["value"] == 1
    assert plain(given, SLIDES, kinds)[0] == 1
    # two seeds count half each
    both = scored({"one": [given, {"malignancy": given["malignancy"][:, ::-1]}]}, SLIDES, kinds, ())
    assert both["rows"][0]["value"] == 0.5


def test_verdicts_go_by_the_interval() -> None:
    rows: list[dict[str, Any]] = [
        {"interval": ends} for ends in ([0.01, 0.2], [-0.1, 0.2], [-0.2, -0.01], None)
    ]
    assert [side(row) for row in rows] == [1, 0, -1, 0]
    assert verdict(rows[1]) == "not shown"


def made(arm: str) -> HierarchicalRecipe:
    given = job(
        "x", arm, Path("data"), Path("labels.csv"), 0.002, 3, TrainingSettings(steps=7), Path("/encoder")
    )
    found = load(given.recipe, list(given.settings))
    assert isinstance(found, HierarchicalRecipe)
    return found


def test_arms_differ_in_their_start_and_in_what_is_trained_alone() -> None:
    recipes = {arm: made(arm) for arm in TRAINED}
    phases = {arm: one.hierarchy.phases[0] for arm, one in recipes.items()}
    trained = {arm: phase.slide.stage1 for arm, phase in phases.items() if phase.slide is not None}
    assert trained == {
        RANDOM_FROZEN: "frozen",
        DINO_FROZEN: "frozen",
        DINO_TRAINED: "trained",
        RANDOM_TRAINED: "trained",
    }
    assert {arm: one.model.init for arm, one in recipes.items()} == {
        RANDOM_FROZEN: "random",
        DINO_FROZEN: "/encoder",
        DINO_TRAINED: "/encoder",
        RANDOM_TRAINED: "random",
    }
    rest = []
    for one in recipes.values():
        values = one.model_dump(mode="json")
        values["model"].pop("init")
        values["hierarchy"]["phases"][0]["slide"].pop("stage1")
        rest.append(values)
    assert all(values == rest[0] for values in rest)
    assert (rest[0]["optim"]["lr"], rest[0]["seed"], phases[DINO_TRAINED].steps) == (0.002, 3, 7)
    assert phases[DINO_TRAINED].tile is phases[DINO_TRAINED].region is None
    assert recipes[DINO_TRAINED].hierarchy.tasks == TASKS


def test_dino_has_the_network_of_stage_1() -> None:
    given = dino_job(Path("tiles"), TrainingSettings(dino_steps=11))
    found = load(given.recipe, list(given.settings))
    own, stage = found.model.model_dump(), made(RANDOM_FROZEN).model.model_dump()
    assert own == stage
    assert (found.method, found.total_steps(100), found.checkpoint.milestones) == ("dino", 11, 11)


def test_regression_leaves_unknown_slides_out() -> None:
    x = np.array([[0.0], [0.1], [1.0], [1.1], [0.05]])
    found = regression(x, ["a", "a", "b", "b", ""], np.array([[0.0], [1.0]]), 10)
    assert found.argmax(axis=1).tolist() == [0, 1]
    wrong = regression(x, ["b", "b", "a", "a", ""], np.array([[0.0], [1.0]]), 10)
    assert wrong.argmax(axis=1).tolist() == [1, 0]


def test_pooled_features_are_means_in_the_order_of_slides() -> None:
    features = np.array([[0.0, 2.0], [4.0, 2.0], [9.0, 9.0]], np.float32)
    assert pooled(features, ["b", "b", "a"], ["a", "b"]).tolist() == [[9, 9], [2, 2]]


def small_study(tmp_path: Path) -> Study:
    return Study(tmp_path / "data", tmp_path / "work", tmp_path / "study.yaml", Common(), {})


def test_nothing_is_made_before_the_choice(tmp_path: Path) -> None:
    with pytest.raises(TestGroups, match="choice"):
        slide_labels.run(small_study(tmp_path))
    assert not (tmp_path / "work").exists()


def test_the_part_from_trainings_to_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(tmp_path)
    where = study.work / "slides"
    where.mkdir(parents=True)
    (study.work / CHOICE).write_text("{}")
    columns = list(SLIDES[0])
    (where / "slides.csv").write_text(
        "\n".join(map(",".join, [columns, *(row.values() for row in SLIDES)])) + "\n"
    )
    about = {"slides": 60, "tiles": 360, "originals": 180, "groups": 181, "closest": 0.7, "dino": 9}
    (where / "about.json").write_text(json.dumps(about))
    jobs: dict[str, Any] = {}

    def trained(study: Study, wanted: list[Any]) -> dict[str, Path]:
        jobs.update({one.name: one for one in wanted})
        return {one.name: Path(one.name) for one in wanted}

    def asked(run: Path, data: Path, labels: Path, slides: list[str]) -> dict[str, np.ndarray]:
        given = jobs[run.name]
        assert given.labels == labels
        # no slide that a run is asked about was trained on
        assert not set(slides) & {line.split(",")[0] for line in labels.read_text().splitlines()}
        rate = yaml.safe_load(
            next(text for text in given.settings if text.startswith("optim.lr")).split("=")[1]
        )
        # random and frozen knows nothing; the larger rate is better
        good = said(0 if "random-frozen" in run.name else 6000 * rate, seed=len(run.name))
        places = [int(name[1:]) for name in slides]
        return {task: values[places] for task, values in good.items()}

    monkeypatch.setattr(slide_labels, "prepare", lambda *_: (where, tmp_path / "data"))
    monkeypatch.setattr(slide_labels, "imported", lambda *_: tmp_path / "tiles")
    monkeypatch.setattr(slide_labels, "trained", trained)
    monkeypatch.setattr(slide_labels, "asked", asked)
    monkeypatch.setattr(slide_labels, "encoder_of", lambda run: run / "encoder")
    monkeypatch.setattr(slide_labels, "seconds", lambda *_: 60.0)
    monkeypatch.setattr(
        slide_labels, "shared", lambda _: {"cells": 4, "cells_shared": 2, "components": [2, 1]}
    )
    blank = {arm: np.ones((60, 2), np.float32) for arm in (*slide_labels.POOLED_ARMS,)}
    monkeypatch.setattr(slide_labels, "pooled_features", lambda *_: blank)
    found = json.loads(json.dumps(slide_labels.run(study)))
    # DINO once; four arms by two rates, and by five folds
    assert len(jobs) == 1 + 4 * 2 + 4 * 5
    assert found["tuned"][DINO_TRAINED] == 0.001
    text = "\n".join(found["sentences"])
    assert "A frozen stage 1 is better from DINO than random: holds" in text
    assert "From random weights, slide labels in stage 1 help: holds" in text
    assert "Colour says nothing of equalised tiles: holds" in text
    assert "beat handmade texture: not shown" in text  # pooled features are as blank as texture
    assert found["seconds_of_training"][DINO] == 60
    shown = slide_labels.markdown(found)
    assert all(f"| {arm} |" in shown for arm in found["tuned"])
    assert "groups of 2, 1" in shown
