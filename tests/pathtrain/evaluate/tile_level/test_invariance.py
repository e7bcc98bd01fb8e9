"""Turned tiles: the eight positions, features whose answer is known, the pass through networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toys import labelled_folder as folder
from helpers.toys import noise, write_dataset, write_run
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.baselines import Beside
from pathtrain.evaluate.tile_level.invariance import invariance, invariance_scored, measure, turn, turned
from pathtrain.evaluate.tile_level.labelled import Set
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import How
from pathtrain.runs.opening import load


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


def test_the_eight_positions_are_all_different_and_none_else() -> None:
    pixels = torch.arange(2 * 3 * 3 * 3, dtype=torch.uint8).view(2, 3, 3, 3)
    found = [turn(pixels, number) for number in range(8)]
    assert torch.equal(found[0], pixels)
    assert len({each.numpy().tobytes() for each in found}) == 8
    for number in range(8):
        again = {turn(found[number], other).numpy().tobytes() for other in range(8)}
        assert again == {each.numpy().tobytes() for each in found}
    np.testing.assert_array_equal(found[1][0].numpy(), np.rot90(pixels[0].numpy()))


def test_known_answers() -> None:
    """Features that do not see the position; that see nothing else; and that lead to another class."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(20, 6)).astype(np.float32)
    labels, group = np.arange(20) % 2, np.arange(20) // 2
    same = measure(np.stack([own] * 8), Set({}, labels, group), 2, 3)
    for key, value in (("cosine", 1), ("centred", 1), ("found", 1), ("changed", 0)):
        np.testing.assert_allclose(same[key], value, atol=1e-6)
    mirror = measure(np.stack([own, *[-own] * 7]), Set({}, labels, group), None, 3)
    np.testing.assert_allclose(mirror["cosine"], -1, atol=1e-6)
    assert "changed" not in mirror
    assert mirror["found"].max() == 0
    # a large constant makes every cosine 1: what is centred still tells
    far = 1000 + np.concatenate([own[None], rng.normal(size=(7, 20, 6))]).astype(np.float32)
    found = measure(far, Set({}, labels, group), 2, 3)
    assert found["cosine"].min() > 0.999
    assert abs(found["centred"].mean()) < 0.2
    ends = np.where(labels[:, None] == [[0, 1]], 1.0, 0.0).astype(np.float32) + 0.01 * own[:, :2]
    flipped = np.stack([ends, ends[:, ::-1], *[ends] * 6]).astype(np.float32)
    np.testing.assert_allclose(measure(flipped, Set({}, labels, group), 2, 3)["changed"], 1 / 7)


def test_turned_features_are_those_of_turned_tiles(run: Path, tmp_path: Path) -> None:
    model, tiles = load(run), open_tiles(folder(tmp_path / "set", {"a": "p", "b": "b"}))
    beside = Beside.of(model, BaselineParams("colour,lbp"), 0)
    found = turned(beside, tiles, np.arange(8), How(batch=3))
    plain = beside.encode(tiles, np.arange(8), How(batch=3))
    np.testing.assert_allclose(found["model"][0][0], plain["model"][0], atol=1e-5)
    assert found["model"][0].shape == (8, 8, 24)
    assert np.abs(found["model"][0][1] - found["model"][0][0]).max() > 1e-3
    np.testing.assert_allclose(found["colour"][0][3], found["colour"][0][0], atol=1e-3)  # the same pixels


def test_labelled_and_plain_tiles(run: Path, tmp_path: Path) -> None:
    tiles = folder(tmp_path / "set", {f"g{n}": "pb"[n % 2] for n in range(6)})
    result, units = invariance_scored(load(run), tiles, k=3, baselines="colour", tiles=20)
    assert (result["tiles"], result["groups"], result["k"]) == (20, 6, 3)
    model, colour = result["results"]
    assert colour["found"] == pytest.approx(1)
    assert colour["changed"] == pytest.approx(0)
    assert model["cosine"] < 1
    assert units["model", "cosine"].figure(np.ones((1, 6)))[0] == pytest.approx(model["cosine"])
    assert colour["lead"]["found"] == pytest.approx(model["found"] - 1)
    dataset = write_dataset(tmp_path / "data", {name: noise(6, seed=n) for n, name in enumerate("ab")})
    bare = invariance(load(run), dataset, baselines="none")
    assert (bare["classes"], bare["k"], bare["group_kind"]) == ([], None, "slide")
    assert "changed" not in bare["results"][0]
    with pytest.raises(UsageError, match="`k` 30: must be 1 to 20, the number of tiles that may vote"):
        invariance(load(run), tiles, k=30)
    with pytest.raises(UsageError, match="`tiles` must be at least 2"):
        invariance(load(run), tiles, tiles=1)


def test_command(run: Path, tmp_path: Path) -> None:
    tiles = folder(tmp_path / "set", {f"g{n}": "pb"[n % 2] for n in range(4)})
    options = ["--tiles", "10", "--k", "2", "--baselines", "colour"]
    done = CliRunner().invoke(app, ["invariance", str(run), str(tiles), *options], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "lower is better" in " ".join(done.stdout.split())
    assert json.loads((run / "evaluation" / "invariance.json").read_text())["tiles"] == 10
