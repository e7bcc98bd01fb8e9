"""Moves with known answers, the whole evaluation on toy tiles, the command and its files."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.toys import labelled_folder, noise, write_dataset, write_run
from PIL import Image
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain import evaluate
from pathtrain.cli import evaluations as app
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.cache import content
from pathtrain.evaluate.shifts.perturb_scores import Base, Labelled, units_of
from pathtrain.evaluate.shifts.perturb_tiles import PerturbedTiles
from pathtrain.evaluate.shifts.perturbation import perturbation_scored
from pathtrain.params.perturbation import STRENGTHS, PerturbationParams

GROUPS = {"a": "p", "b": "q", "c": "p", "d": "q"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return write_run(root / "run", root / "gone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_folder(tmp_path_factory.mktemp("tiles") / "tiles", GROUPS)


@pytest.fixture(scope="module")
def result(run: Path, folder: Path) -> dict[str, Any]:
    return evaluate.perturbation(run, folder, mpp=0.5, random_seeds=1, k=3)


def features(seed: int = 0, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 8)).astype(np.float32)


GROUP = np.repeat(np.arange(8), 5)


def test_what_does_not_move_has_not_moved() -> None:
    own = features()
    votes = Labelled(GROUP % 2, 2, 5)
    base = Base(own, GROUP, votes, handmade=False)
    still = base.moves(own.copy())
    assert still.distance.tolist() == [0] * 40
    assert still.retrieved.tolist() == [1] * 40
    assert still.changed is not None
    assert still.fall is not None
    assert still.changed.sum() == still.fall.sum() == 0
    longer = base.moves(7 * own)  # cosine does not see length
    assert np.abs(longer.distance).max() < 1e-6
    assert longer.retrieved.tolist() == [1] * 40


def test_as_far_as_another_tile_is_1() -> None:
    own = features(count=400)
    group = np.arange(400)
    base = Base(own, group, None, handmade=False)
    other = base.moves(own[np.random.default_rng(1).permutation(400)])
    units = units_of([[other]], group, tuple(map(str, range(400))))["moved"]
    assert units.figure(np.ones((1, 400)))[0] == pytest.approx(1, abs=0.1)
    assert other.retrieved.mean() < 0.05
    assert other.changed is None


def test_distances_are_to_the_tiles_of_other_groups() -> None:
    own = features()
    base = Base(own, GROUP, None, handmade=False).moves(own)
    rows = own.astype(np.float64) / np.linalg.norm(own.astype(np.float64), axis=1, keepdims=True)
    apart = 1 - rows @ rows.T
    expected = [apart[row][GROUP[row] != GROUP].mean() for row in range(40)]
    np.testing.assert_allclose(base.others, expected, atol=1e-6)
    alone = Base(own, np.zeros(40, dtype=np.int64), None, handmade=False).moves(own)
    expected = [np.delete(apart[row], row).mean() for row in range(40)]
    np.testing.assert_allclose(alone.others, expected, atol=1e-6)


def test_a_network_that_tells_nothing_apart_retrieves_by_chance() -> None:
    same = np.ones((40, 8), np.float32)
    moves = Base(same, GROUP, None, handmade=False).moves(same)
    assert moves.retrieved.tolist() == [1 / 40] * 40
    assert moves.others.max() < 1e-6


def test_votes_that_change_and_accuracy_that_falls() -> None:
    """Two clusters; half of the tiles are moved into the other one."""
    labels = GROUP % 2
    own = (np.eye(8)[labels] + 0.01 * features()).astype(np.float32)
    moved = own.copy()
    moved[:20] = (np.eye(8)[1 - labels[:20]] + 0.01 * features(1)[:20]).astype(np.float32)
    base = Base(own, GROUP, Labelled(labels, 2, 5), handmade=False)
    assert base.right().tolist() == [1] * 40  # type: ignore[union-attr]
    found = base.moves(moved)
    assert found.changed is not None
    assert found.fall is not None
    assert found.changed.tolist() == found.fall.tolist() == [1] * 20 + [0] * 20


def test_colour_is_standardised_first() -> None:
    own = features() * 1e-3 + 5
    moves = Base(own, GROUP, None, handmade=True).moves(own + np.float32(1e-3))
    assert moves.distance.mean() > 0.1
    assert Base(own, GROUP, None, handmade=False).moves(own + np.float32(1e-3)).distance.mean() < 1e-6


class Mean(torch.nn.Module):
    """Sees the mean of each colour alone: cosine then knows no brightness."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def test_a_network_that_sees_hue_alone_is_not_moved_by_light_or_noise(folder: Path) -> None:
    tiles = open_tiles(folder)
    order = np.arange(len(tiles))

    def seen(kind: str, strength: float | None) -> np.ndarray:
        source = PerturbedTiles(tiles, kind, strength, 0, {}, 0.5)
        stack = [source.pixels(source.read(tile), tile) for tile in order]
        images = torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2).float()
        return Mean()(images).numpy()

    base = Base(seen("light", None), tiles.group, None, handmade=False)
    for kind, strength in (("light", 0.05), ("noise", 5.0), ("blur", 0.5)):
        moves = base.moves(seen(kind, strength))
        assert moves.distance.sum() / moves.others.sum() < 0.01
    moves = base.moves(seen("gamma", 0.4))
    assert moves.distance.sum() / moves.others.sum() > 0.05


def test_the_whole_has_rows_intervals_and_every_perturbation(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result
    assert [row["name"] for row in result["results"]] == ["model", "start", "random", "colour", "colour+LBP"]
    asked = [(kind, strength) for kind, strengths in STRENGTHS.items() for strength in strengths]
    assert [(each["kind"], each["strength"]) for each in result["perturbations"]] == asked
    model, start = result["results"][:2]
    assert start["lead"]["moved"] == 0  # a run that was not trained
    for key in ("moved", "retrieval", "cosine", "changed", "fall"):
        each = [entry["results"][0][key] for entry in result["perturbations"]]
        assert model[key] == pytest.approx(np.mean(each))
        low, high = model[f"{key}_interval"]
        assert low <= model[key] <= high
    assert model["accuracy"] == 1  # pink and blue
    assert result["group_kind"] == "group"
    by_kind = {
        (each["kind"], each["strength"]): each["results"][0]["moved"] for each in result["perturbations"]
    }
    assert by_kind["noise", 2.0] < by_kind["noise", 10.0]
    assert all(each["unit"] for each in result["perturbations"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_strength_0_moves_nothing_from_end_to_end(run: Path, folder: Path, precision: str) -> None:
    how = {"kinds": "stain:0,light:0,noise:0", "precision": precision, "random_seeds": 1, "k": 3}
    for row in evaluate.perturbation(run, folder, **how)["results"]:
        assert row["moved"] == row["changed"] == row["fall"] == 0
        assert row["cosine"] == pytest.approx(1, abs=1e-6)
    moved = evaluate.perturbation(run, folder, **(how | {"kinds": "light:0.2"}))["results"][0]
    assert moved["moved"] > 0


def test_the_same_again_other_draws_and_its_units(run: Path, folder: Path) -> None:
    how = {"kinds": "stain:0.2,noise", "baselines": "colour", "tiles": 10}
    one, two = (perturbation_scored(run, folder, **how) for _ in range(2))
    assert one.result == two.result
    other = perturbation_scored(run, folder, seed=1, **how)
    assert other.result["results"] != one.result["results"]
    units = one.units["colour", "moved"]
    assert units.sums.shape[1] == 4
    assert units.figure(np.ones((1, len(units.groups))))[0] == one.result["results"][1]["moved"]


def test_a_cache_takes_no_perturbed_tile_for_another(run: Path, folder: Path, tmp_path: Path) -> None:
    how = {"kinds": "light,noise:5,mpp", "baselines": "colour", "k": 3}
    plain = evaluate.perturbation(run, folder, **how)
    for _ in range(2):
        assert evaluate.perturbation(run, folder, cache=tmp_path / "cache", **how) == plain
    tiles, order = open_tiles(folder), np.arange(3)
    changed = [
        PerturbedTiles(tiles, kind, strength, 0, {}, 0.5)
        for kind, strength in (("light", 0.1), ("light", 0.2), ("noise", 5.0), ("light", None), ("mpp", None))
    ]
    assert len({content(each, order) for each in changed}) == 5


def test_a_dataset_of_slides_without_labels(run: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", {"s1": noise(6, seed=1), "s2": noise(6, colour=(90, 90, 200))})
    result = evaluate.perturbation(run, dataset, kinds="blur:1", baselines="none", any_mpp=True)
    assert result["mpp"] == 0.5
    assert result["labels_missing"] == "the tiles have no labels"
    assert "changed" not in result["results"][0]
    assert result["results"][0]["accuracy"] is None
    labels = tmp_path / "labels.csv"
    labels.write_text("slide,label\ns1,x\ns2,y\n")
    how: dict[str, Any] = {"kinds": "light", "baselines": "none", "any_mpp": True}
    assert "changed" in evaluate.perturbation(run, dataset, labels, **how)["results"][0]


def test_a_model_with_a_target_fits_the_changed_tile(normalising: Any, folder: Path) -> None:
    result = evaluate.perturbation(normalising(), folder, kinds="light:0.1", baselines="none")
    assert result["model"]["target"] is not None
    assert result["results"][0]["moved"] > 0


@pytest.mark.slow
def test_real_tiles_move_further_than_noise(run: Path, data: Path) -> None:
    """LC25000: a turn of the stain vectors by 10 degrees moves colour further than JPEG of quality 90."""
    how: dict[str, Any] = {"kinds": "cast:10,jpeg:90", "tiles": 60, "baselines": "colour", "k": 5}
    found = evaluate.perturbation(run, data / "tiles" / "test", **how)
    turned, encoded = (each["results"][1] for each in found["perturbations"])
    assert turned["moved"] > 5 * encoded["moved"]
    assert turned["changed"] > encoded["changed"]


def test_what_cannot_be_is_told(run: Path, folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"blur is in micrometres; give the tiles' `mpp`, .* `kinds` stain,shift"
    ):
        evaluate.perturbation(run, folder)
    bad = {
        "smear": "`kinds` smear: give some of stain,",
        "blur:x": "`kinds` blur:x: give strengths as numbers",
        "mpp:2": "`kinds` mpp:2: give 0.1 to 1.25",
        "jpeg:0": "`kinds` jpeg:0: give 1 to 100",
        "": "`kinds` : give some of",
    }
    for kinds, words in bad.items():
        with pytest.raises(UsageError, match=words):
            PerturbationParams(kinds=kinds)
    assert PerturbationParams(kinds="jpeg,blur:0.5/1").chosen() == {
        "blur": (0.5, 1),
        "jpeg": (90, 70, 50, 30),
    }


def test_the_command_writes_a_table_and_a_figure(run: Path, folder: Path, tmp_path: Path) -> None:
    asked = ["perturbation", str(run), str(folder), "--out", str(tmp_path), "--kinds", "light,cast:5"]
    asked += ["--baselines", "colour", "--k", "3"]
    done = CliRunner().invoke(app, asked, env={"COLUMNS": "160"}, catch_exceptions=False)
    assert done.exit_code == 0
    assert "0 nothing, 1 as far as another tile" in done.stdout
    kept = json.loads((run / "evaluation" / "perturbation.json").read_text())
    with (tmp_path / "perturbation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2
    assert float(rows[0]["moved"]) == pytest.approx(kept["perturbations"][0]["results"][0]["moved"], rel=1e-5)
    with Image.open(tmp_path / "perturbation.png") as picture:
        assert picture.width > 300


def test_several_random_networks_have_a_range(run: Path, folder: Path) -> None:
    how = {"kinds": "light:0.2", "baselines": "random", "random_seeds": 2, "tiles": 8, "k": 3}
    model, random = evaluate.perturbation(run, folder, **how)["results"]
    low, high = random["cosine_range"]
    assert low < random["cosine"] < high
    assert "cosine_range" not in model
