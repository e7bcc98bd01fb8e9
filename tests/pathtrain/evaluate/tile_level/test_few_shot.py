"""SimpleShot against a plain reading of it, draw by draw; what is known of its answers; the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toys import labelled_folder as folder
from helpers.toys import write_run
from sklearn.metrics import balanced_accuracy_score, pairwise_distances_argmin
from sklearn.preprocessing import normalize
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.evaluate.tile_level.few_shot import drawn, episodes, few_shot, few_shot_scored
from pathtrain.runs.opening import load

FEW = {"shots": "1,2,64", "episodes": 20, "baselines": "colour"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


@pytest.mark.parametrize("shots", [1, 5])
def test_it_is_the_nearest_mean_of_centred_features_of_length_one(shots: int) -> None:
    """scikit-learn's distances on each draw's features, far from the origin as encoders' are."""
    rng = np.random.default_rng(0)
    labels, wanted = np.arange(60) % 3, np.array([0] * 30 + [1] * 8 + [2] * 2)
    mean = 5 + np.eye(8)[:3]
    bank = (mean[labels] + rng.normal(0, 0.8, (60, 8))).astype(np.float32)
    queries = (mean[wanted] + rng.normal(0, 0.8, (40, 8))).astype(np.float32)
    draws = drawn(labels, 3, shots, 25, 0)
    assert all((labels[draws[:, c]] == c).all() for c in range(3))
    right, each = episodes(bank, queries, draws, wanted)
    hits, scores = np.zeros(40), []
    for rows in draws:
        support = bank[rows.ravel()].astype(np.float64)
        centre = support.mean(axis=0)
        means = normalize(support - centre).reshape(3, shots, 8).mean(axis=1)
        guesses = pairwise_distances_argmin(normalize(queries - centre), means)
        hits += guesses == wanted
        scores.append(balanced_accuracy_score(wanted, guesses))
    np.testing.assert_allclose(right, hits / 25)
    np.testing.assert_allclose(each, scores)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(episodes(bank, queries, draws, wanted)[0], right)


def test_figures_rise_with_tiles_and_are_those_of_the_units(run: Path, tmp_path: Path) -> None:
    train = folder(tmp_path / "train", {f"g{n}": "pb"[n % 2] for n in range(6)})
    test = folder(tmp_path / "test", {f"h{n}": "pb"[n % 2] for n in range(4)})
    result, units = few_shot_scored(load(run), train, test, **FEW)
    assert (result["shots"], result["left_out_shots"], result["chance"]) == ([1, 2], [64], 0.5)
    model, colour = result["results"]
    for row in (model, colour):
        for number in (1, 2):
            key = f"balanced_{number}"
            assert units[row["name"], key].figure(np.ones((1, 4)))[0] == pytest.approx(row[key])
            low, high = row[f"{key}_episodes"]
            assert low <= row[key] <= high
    assert model["lead"] is None
    assert colour["balanced_2"] > 0.9
    assert colour["lead"]["balanced_2"] == pytest.approx(model["balanced_2"] - colour["balanced_2"])
    assert result == few_shot(load(run), train, test, **FEW)
    alone = few_shot(load(run), folder(tmp_path / "alone", {f"g{n}": "pb"[n % 2] for n in range(10)}), **FEW)
    assert alone["protocol"].endswith("80:20 by group")


def test_what_is_refused(run: Path, tmp_path: Path) -> None:
    train, test = (
        folder(tmp_path / "train", {"a": "p", "b": "b"}),
        folder(tmp_path / "test", {"c": "p", "d": "b"}),
    )
    with pytest.raises(UsageError, match="`shots` 5,9: a class has 4 tiles to learn from; give at most that"):
        few_shot(load(run), train, test, shots="5,9")
    for wrong in ("", "0", "two", "1;2"):
        with pytest.raises(UsageError, match="`shots` .*: give whole numbers above 0"):
            few_shot(load(run), train, test, shots=wrong)


def test_command(run: Path, tmp_path: Path) -> None:
    train = folder(tmp_path / "train", {f"g{n}": "pb"[n % 2] for n in range(10)})
    options = ["--train", str(train), "--shots", "1,4", "--episodes", "5", "--baselines", "colour"]
    done = CliRunner().invoke(app, ["few-shot", str(run), *options], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "SimpleShot as UNI has it" in done.stdout
    saved = json.loads((run / "evaluation" / "few-shot.json").read_text())
    assert saved["shots"] == [1, 4]
