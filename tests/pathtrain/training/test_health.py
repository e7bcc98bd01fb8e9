"""What rows of a log say of a run's health, and what training makes of it."""

import math
from pathlib import Path
from typing import Any

import pytest
from helpers.training import SETTINGS, train

from pathprep.errors import UsageError
from pathtrain.errors import CollapseError
from pathtrain.recipes.load import load
from pathtrain.runs import checkpoint
from pathtrain.training import row_keys
from pathtrain.training.health import Health
from pathtrain.training.logs import rows

RECIPE = load("smoke", ["warn_after=20"])  # of 256 outputs
TOP = math.log(256)
FINE = {
    "loss": 4.0, "kl": 1.0, "teacher_entropy": 3.0, "output_entropy": 4.0, "outputs_used": 55.0,
    "feature_rank": 20.0, "feature_sd": 0.4,
}  # fmt: skip
UNIFORM = {**FINE, "loss": TOP, "teacher_entropy": TOP - 0.01, "output_entropy": TOP, "outputs_used": 256.0}
ONE = {**FINE, "loss": 0.001, "teacher_entropy": 0.001, "output_entropy": 0.002, "outputs_used": 1.0}
SOME = {**FINE, "loss": 1.6, "teacher_entropy": 1.6, "output_entropy": 1.61, "outputs_used": 5.0}
TWO = {**FINE, "loss": 0.6, "teacher_entropy": 0.1, "output_entropy": 0.7, "outputs_used": 2.0}
BEHIND = {**FINE, "loss": TOP + 2}
ALIKE = {**FINE, "feature_rank": 1.01, "feature_sd": 0.001}


def told(kinds: list[dict[str, float]], recipe: Any = RECIPE) -> list[tuple[int, str]]:
    """Step and words of each message on rows of five steps."""
    health = Health(recipe)
    return [
        (5 * number, line)
        for number, kind in enumerate(kinds, 1)
        for line in health.see({"step": 5 * number, "steps": 5, **kind})
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (UNIFORM, "says the same of every tile, all 256 outputs alike (loss 5.5452, ln 256 is 5.5452)"),
        (ONE, "says the same of every tile, one output of 256"),
        (SOME, "says the same of every tile, the same 5.0 of 256 outputs"),
        (
            TWO,
            "the network uses 2.0 of 256 outputs, so that it tells a tile from another",
        ),
        (BEHIND, "the student knows nothing of what the teacher says of a tile: the loss, 7.5452"),
        (ALIKE, "nearly the same features (effective rank 1.01, SD 0.0010"),
    ],
)
def test_said_once_and_again_when_it_comes_back(kind: dict[str, float], words: str) -> None:
    found = told([FINE, *[kind] * 8, FINE, *[kind] * 3, FINE, *[kind] * 4])
    assert [step for step, _ in found] == [25, 90]
    assert all(words in line for _, line in found)
    assert told([kind] * 3) == []


@pytest.mark.parametrize("kind", [UNIFORM, TWO, BEHIND])
def test_what_may_help_is_what_the_recipe_has(kind: dict[str, float]) -> None:
    """Sinkhorn has no centre."""
    row = {f"tile_{name}": value for name, value in kind.items()}
    for centring, named in (("mean", True), ("sinkhorn", False)):
        ((_, line),) = told([row] * 6, load("midnight-tiny", ["warn_after=20", f"dino.centring={centring}"]))
        assert "what may help: " in line
        assert ("center_momentum" in line) == named


def test_a_start_at_the_logarithm_of_outputs_is_no_warning() -> None:
    assert told([*[UNIFORM] * 3, *[FINE] * 10]) == []
    assert told([UNIFORM] * 100, load("smoke", ["warn_after=0"])) == []


def test_objectives_in_turn_are_judged_by_the_rows_that_have_them() -> None:
    recipe = load("exaonepath2-tiny", ["warn_after=20"])
    tile = {f"tile_{name}": value for name, value in FINE.items()}
    region = {f"region_{name}": value for name, value in UNIFORM.items()}
    found = told([{**(region if n % 2 else tile), "phase": 2.0} for n in range(10)], recipe)
    assert [step for step, _ in found] == [30]
    assert "the same of every region" in found[0][1]
    assert "hierarchy.phases.1.region.teacher_temp" in found[0][1]


# Nothing keeps the teacher from one output: no centring
ONE_OUTPUT = ("dino.center_momentum=1", "dino.teacher_temp={start: 0.001, end: 0.001, steps: 0}")


def test_a_run_made_to_collapse_says_so_and_stops(dataset: Path, tmp_path: Path) -> None:
    run, more = tmp_path / "run", (*ONE_OUTPUT, "steps=60", "optim.lr=0.003", "warn_after=6")
    with pytest.raises(
        CollapseError, match=r"checkpoint written: since step \d+, the network says.*start over"
    ) as caught:
        train(dataset, run, *more, stop_on_collapse=True)
    step = checkpoint.entries(run)[-1].step
    assert f"stopped after step {step} of 60" in str(caught.value)
    assert caught.value.exit_code == 76
    # its rows tell who goes on how long it has lasted: it is not said again, and the next row stops it again
    with pytest.raises(CollapseError, match=rf"stopped after step {step + 2} of 60"):
        train(dataset, run, *more, stop_on_collapse=True)
    _, text = train(dataset, run, *more)
    assert "says the same" not in text
    spell = Health(load("smoke", (*SETTINGS, *more)), rows(run)).now[0]
    assert spell.last == 60
    assert spell.words.startswith("the network says the same of every tile, one output of 32 (loss 0.0")


def test_to_stop_on_what_is_never_said_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`stop_on_collapse` needs warn_after above 0"):
        train(dataset, tmp_path / "run", "warn_after=0", stop_on_collapse=True)


def test_every_key_of_a_row_is_described(straight: Path) -> None:
    for row in rows(straight):
        assert {name for name in row if row_keys.of(name) is None} == set()
    assert row_keys.of("tile_kl") == ("Tiles: loss less teacher entropy (nats)", row_keys.KEYS["kl"].words)
    sd = row_keys.of("region_feature_sd")
    assert sd is not None
    assert sd.title.startswith("Regions: SD of features")
    assert row_keys.of("anything") is None
