"""Segmentation and expression for many encoders, on drawn data with known answers."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small.core import paired
from small.core.config import Common, Study
from small.core.encoders import COLOUR, RANDOM, Encoder
from small.core.tiles import TestGroups
from small.dense import nuclei, spots
from small.dense import tasks as dense

from pathprep.errors import UsageError
from pathtrain.evaluate.expression import scores
from pathtrain.evaluate.units import Units
from pathtrain.models.any_network import any_network
from pathtrain.recipes.model import ModelConfig
from pathtrain.runs.finishing import finished
from pathtrain.runs.model import LoadedModel

GROUPS = 14


def _units(values: Any) -> Units:
    return Units(
        tuple(map(str, range(GROUPS))), np.asarray(values, np.float64)[:, None], np.ones((GROUPS, 1))
    )


def _rows(*, gain: float, seeds: tuple[float, ...] = (0.0, 0.01, -0.01)) -> list[paired.Row]:
    """Two encoders on fields that differ much more than the encoders do."""
    rng = np.random.default_rng(0)
    fields = rng.uniform(0.2, 0.8, GROUPS)
    noise = rng.normal(0, 0.01, (2, GROUPS))
    own = {
        "new": [_units(fields + gain + noise[0] - noise[0].mean() + seed).figure for seed in seeds],
        "old": [_units(fields + noise[1] - noise[1].mean()).figure],
    }
    return paired.rows("Dice", own, GROUPS, {"new": ("old", "absent")})


def test_a_gain_that_is_smaller_than_the_spread_of_fields_is_found_by_pairing() -> None:
    new, old = _rows(gain=0.05)
    gap = new["minus"]["old"]
    assert gap["value"] == pytest.approx(0.05)
    assert new["interval"][0] < old["value"]  # alone they cannot be told apart
    assert gap["clear"]
    assert paired.verdict(gap) == "above"
    assert new["seeds"] == pytest.approx([new["value"] + each for each in (0.0, 0.01, -0.01)])
    assert "absent" not in new["minus"]
    assert old["minus"] == {}
    (said,) = paired.summaries([new, old], ["new", "old"])
    assert said.startswith(f"Dice, new: {new['value']:.3f}, above old (+0.050 [+0.")
    assert paired.verdict(_rows(gain=-0.05)[0]["minus"]["old"]) == "below"


def test_no_gain_and_a_gain_of_some_seeds_alone_are_not_clear() -> None:
    rows = _rows(gain=0.0)
    assert paired.verdict(rows[0]["minus"]["old"]) == "level"
    assert ", not told apart from old (" in paired.summaries(rows, ["new"])[0]
    some = _rows(gain=0.05, seeds=(0.2, -0.1, -0.1))[0]["minus"]["old"]
    assert some["interval"][0] > 0
    assert min(some["seeds"]) < 0
    assert paired.verdict(some) == "level"


def test_the_table_has_clear_differences_in_bold() -> None:
    head, _, new, old = paired.table(_rows(gain=0.05)).splitlines()
    assert head == "| figure | encoder | mean [95 %] | seeds | minus others |"
    assert "| old **+0.050 [" in new
    assert old.endswith("|  |  |")
    assert "| old +0.000 [" in paired.table(_rows(gain=0.0))


def _model(seed: int) -> LoadedModel:
    config = ModelConfig.model_validate(
        {
            "name": "vit_tiny_patch16_224",
            "kwargs": {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 24, "num_heads": 2},
            "init": "random",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "checkpoint": False,
            "freeze_patch_embed": False,
            "positions": "once",
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return finished(any_network(config), config, f"tiny {seed}", None)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """CoNSeP's layout with two fields to learn from and three to test, three tiles each: four classes in
    colours of their own."""
    source = tmp_path / "data" / "consep"
    (source / "tiles").mkdir(parents=True)
    rng = np.random.default_rng(0)
    paint = np.array([[230, 230, 230], [200, 0, 0], [0, 200, 0], [0, 0, 200], [120, 0, 120]], np.uint8)
    rows = []
    for field in range(5):
        for tile in range(3):
            classes = np.kron(rng.permutation(16).reshape(4, 4) % 5, np.ones((8, 8), int)).astype(np.uint8)
            name = f"tiles/{field}-{tile}"
            Image.fromarray(paint[classes]).save(source / f"{name}.png")
            Image.fromarray(classes).save(source / f"{name}-class.png")
            split = "train" if field < 2 else "test"
            rows.append([f"{name}.png", "", f"{name}-class.png", f"field-{field}", split])
    with (source / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "inst", "class_mask", "group", "split"], *rows])
    work = tmp_path / "work"
    work.mkdir()
    return Study(tmp_path / "data", work, tmp_path / "study.yaml", Common(seeds=1), {})


def test_segmentation_scores_each_seed_once_and_names_what_has_no_row(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = nuclei.Segmentation(tiles=2, steps=30, batch=4, lr=0.02)
    encoders = [Encoder("tiny", (_model(0), _model(1)), 32), Encoder("odd", (_model(0),), 33)]
    against = {"tiny": (nuclei.colour_at(32),)}
    with pytest.raises(TestGroups):
        nuclei.segmentation(study, encoders, settings, against)
    (study.work / "choice.json").write_text("{}")
    result = nuclei.segmentation(study, encoders, settings, against)
    tiny, colour = result["rows"]
    assert (tiny["encoder"], colour["encoder"]) == ("tiny", "colour decoder, 32 px")
    assert len(tiny["seeds"]) == 2
    assert tiny["value"] == pytest.approx(np.mean(tiny["seeds"]))
    assert colour["value"] > 0.5  # the classes are their colours
    assert colour["value"] == pytest.approx(np.mean(list(result["classes"][colour["encoder"]].values())))
    assert (result["fields"], result["tiles"]) == (3, 6)
    assert "multiple of 8" in result["missing"]["odd"]
    json.dumps(result)
    assert "odd has no row" in nuclei.markdown(result)

    def again(*args: Any, **more: Any) -> Any:
        raise AssertionError("it was scored before")

    monkeypatch.setattr(nuclei, "segmentation_scored", again)
    assert nuclei.segmentation(study, encoders[:1], settings, against)["rows"] == result["rows"]
    with pytest.raises(AssertionError):
        nuclei.segmentation(study, encoders[:1], settings.model_copy(update={"steps": 41}), against)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="no encoder can segment: odd: `size` 33"):
        nuclei.segmentation(study, encoders[1:], settings, against)


def test_the_tuned_ridge_holds_long_noise_back_where_the_published_one_follows_it() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, 2))
    genes = hidden @ rng.normal(size=(2, 10)) + rng.normal(size=(400, 10))
    features = np.hstack([hidden, rng.normal(size=(400, 150))]).astype(np.float32)
    blocks = np.arange(200) // 10
    tuned = spots.tuned(features[:200], genes[:200], features[200:], blocks)
    published, _ = spots.predict(features[:200], genes[:200], features[200:], "pca")

    def reached(found: Any) -> float:
        return float(np.mean([np.corrcoef(found[:, g], genes[200:, g])[0, 1] for g in range(10)]))

    assert reached(tuned) > reached(published) + 0.1


def test_expression_is_the_published_figure_and_a_planted_lead_is_found() -> None:
    rng = np.random.default_rng(1)
    square = np.repeat(np.arange(15), 10)
    folds = []
    for fold in ("B", "C"):
        truth = rng.normal(size=(150, 6))
        noise = [truth + rng.normal(0, 1.5, truth.shape) for _ in range(4)]
        good = [truth + rng.normal(0, 0.5, truth.shape) for _ in range(2)]
        said = {f"good\n{seed}": [good[seed]] for seed in range(2)}
        said |= {f"poor\n{seed}": [noise[seed]] for seed in range(2)} | {f"{COLOUR}\n0": [noise[2]]}
        folds.append(scores.scored("task", fold, truth, said, square))
    seeds = {"good": 2, "poor": 2, COLOUR: 1}
    against = {"good": (COLOUR,), "poor": (COLOUR,)}
    good, poor, colour = spots._rows(folds, seeds, "tuned", against)
    whole = scores.units(folds)[f"{COLOUR}\n0"].figure(np.ones((1, 2)))[0]
    assert colour["value"] == pytest.approx(whole)
    assert good["minus"][COLOUR]["clear"]
    assert good["minus"][COLOUR]["genes_above"] == 1.0
    assert paired.verdict(poor["minus"][COLOUR]) == "level"
    assert np.mean(list(good["patients"].values())) == pytest.approx(good["value"])
    text = spots.markdown({"rows": [good, poor, colour], "spots": 300, "squares": 30, "genes": 6})
    assert "genes better told: 100% over colour" in text
    assert "say nothing of other patients" in text
    assert partial(spots._figure, folds, np.array([15, 30]))("good\n0", np.ones((1, 30))).shape == (1,)


def test_both_tasks_say_what_the_first_encoder_is_above_below_and_level_with(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def found(*given: Any) -> Any:
        asked.append(given[-1])
        return {"rows": rows, "classes": {}, "fields": 3, "tiles": 6, "missing": {}}

    rows = [*_rows(gain=0.05), *_rows(gain=0.0)]
    monkeypatch.setattr(nuclei, "segmentation", found)
    monkeypatch.setattr(spots, "expression", lambda *given: {**found(*given), "rows": rows[2:]})
    encoders = [Encoder(name, (_model(0),), size) for name, size in (("new", 32), (RANDOM, 64))]
    result = dense.scored(study, encoders, nuclei.Segmentation())
    assert asked[0] == asked[1]
    assert list(asked[0]) == ["new"]
    assert {RANDOM, COLOUR, nuclei.colour_at(32), nuclei.colour_at(64)} <= set(asked[0]["new"])
    above, level, again = result["sentences"]
    assert ", above old (+0.050 [" in above
    assert ", not told apart from old (" in level
    assert level == again
