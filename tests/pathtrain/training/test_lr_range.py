"""A learning rate range test: curves that are known are read right, and nothing is left behind."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.hierarchies import FIRST, SMALL
from helpers.training import SETTINGS
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import app
from pathtrain.recipes.load import load
from pathtrain.training import lr_curve
from pathtrain.training.lr_range import lr_range

RATES = np.geomspace(1e-6, 1, 121)
TOLD = np.full(121, 2.0)
PLACES = np.log10(RATES)


def falling(middle: float, bottom: float) -> np.ndarray:
    """A logistic fall by 3 nats with its steepest place at one rate, and a climb beyond another."""
    climb = np.maximum(0, PLACES - math.log10(bottom))
    return 4 - 3 / (1 + np.exp(-4 * (PLACES - math.log10(middle)))) + 2 * climb**2


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_known_curve(noise: float) -> None:
    ys = falling(1e-3, 1e-1) + np.random.default_rng(0).normal(0, noise, 121)
    found = lr_curve.read(RATES.tolist(), ys.tolist(), TOLD.tolist())
    assert found.range == (found.steepest, found.lowest)
    exact = falling(1e-3, 1e-1)
    lowest = int(exact.argmin())
    regained = exact[lowest:] > exact.min() + 0.1 * (exact[0] - exact.min())
    assert found.steepest == pytest.approx(1e-3, rel=0.6 if noise else 0.2)
    assert found.lowest == pytest.approx(RATES[lowest], rel=0.8 if noise else 0.5)
    assert found.rises == pytest.approx(RATES[lowest + regained.argmax()], rel=0.6 if noise else 0.2)
    assert found.collapsed is None


def test_a_collapse_falls_too_and_is_cut_off() -> None:
    """From .01 on the divergence goes to 0 steeper than before, as outputs stop to tell tiles apart."""
    gone = RATES >= 1e-2
    ys = np.where(gone, falling(1e-3, 1) * np.exp(-20 * (PLACES + 2)), falling(1e-3, 1))
    told = np.where(gone, 0.01, 2.0)
    found = lr_curve.read(RATES.tolist(), ys.tolist(), told.tolist())
    assert found.collapsed == pytest.approx(1e-2, rel=0.8)
    assert found.range is not None
    assert found.range[0] == pytest.approx(1e-3, rel=0.5)
    assert found.range[1] < found.collapsed
    blind = lr_curve.read(RATES.tolist(), ys.tolist(), TOLD.tolist())
    assert blind.range is not None
    assert blind.range[1] > found.range[1]


@pytest.mark.parametrize("shape", ["flat", "noise", "rising", "dead"])
def test_curves_without_a_range(shape: str) -> None:
    rng = np.random.default_rng(1)
    ys = {
        "flat": np.full(121, 3.0),
        "noise": 3 + rng.normal(0, 0.3, 121),
        "rising": 3 + 0.5 * (PLACES + 6) + rng.normal(0, 0.05, 121),
        "dead": falling(1e-3, 1),
    }[shape]
    told = np.zeros(121) if shape == "dead" else TOLD
    found = lr_curve.read(RATES.tolist(), ys.tolist(), told.tolist())
    assert found.range is None
    assert (found.collapsed == RATES[0]) == (shape == "dead")


def test_the_command_leaves_a_page_and_no_run(dataset: Path, tmp_path: Path) -> None:
    given = [part for setting in SETTINGS for part in ("--set", setting)]
    page, result = tmp_path / "lr.html", tmp_path / "lr.json"
    options = [
        "--steps",
        "20",
        "--low",
        "1e-5",
        "--high",
        "1e-2",
        "--out",
        str(page),
        "--out-json",
        str(result),
    ]
    before = sorted(dataset.rglob("*"))
    done = CliRunner().invoke(app, ["lr-range", str(dataset), *given, *options], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr.html", "lr.json"]
    assert sorted(dataset.rglob("*")) == before
    found = json.loads(result.read_text())
    assert found["lr"] == pytest.approx(np.geomspace(1e-5, 1e-2, 20).tolist())
    assert found["recipe_lr"] == load("smoke").optim.lr
    assert all(len(found[name]) == 20 for name in ("loss", "teacher_entropy", "told", "gradient_norm"))
    assert all(0 <= value <= math.log(32) for value in found["told"])
    assert "a bound, not a choice" in done.output
    assert page.read_text().count("<svg") == 4
    assert lr_range(dataset, load("smoke", SETTINGS), steps=20, low=1e-5, high=1e-2).loss == found["loss"]


def test_a_loss_that_is_not_finite_ends_it(dataset: Path) -> None:
    recipe = load("smoke", [*SETTINGS, "optim.clip=null"])
    found = lr_range(dataset, recipe, steps=20, low=1e-3, high=1e30)
    assert found.not_finite == found.lr[-1]
    assert len(found.lr) < 20
    assert any("not finite after" in line for line in found.said)


def test_what_has_no_one_rate_is_refused(dataset: Path) -> None:
    three = load("exaonepath2-tiny", [*SMALL, f"hierarchy.phases=[{FIRST}]"])
    with pytest.raises(UsageError, match="hierarchical has several losses.*a recipe of the method dino"):
        lr_range(dataset, three)
    for wrong in ({"steps": 5}, {"low": 0.0}, {"low": 1.0, "high": 0.1}):
        with pytest.raises(UsageError, match="`steps`|`low`"):
            lr_range(dataset, load("smoke", SETTINGS), **wrong)  # type: ignore[arg-type]
