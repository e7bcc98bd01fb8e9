"""Retrieval against scikit-learn and plain loops; votes, left-out queries and the command."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.toys import labelled_folder as folder
from helpers.toys import write_run
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import normalize
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.evaluate.tile_level.few_shot import few_shot
from pathtrain.evaluate.tile_level.invariance import invariance
from pathtrain.evaluate.tile_level.retrieval import KEYS, majority, retrieval, retrieval_scored, search
from pathtrain.runs.opening import load


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


def test_search_is_what_plain_loops_find() -> None:
    """Mean average precision of all neighbours is scikit-learn's."""
    rng = np.random.default_rng(0)
    labels, wanted = rng.integers(4, size=50), rng.integers(4, size=30)
    bank = (np.eye(6)[labels] + rng.normal(0, 0.7, (50, 6))).astype(np.float32)
    queries = (np.eye(6)[wanted] + rng.normal(0, 0.7, (30, 6))).astype(np.float32)
    relevant = np.bincount(labels, minlength=4)[wanted]
    found = search(bank, labels, queries, wanted, relevant, 50)
    similar = normalize(queries) @ normalize(bank).T
    for query in range(30):
        order = np.argsort(-similar[query])
        right = labels[order] == wanted[query]
        for k in (1, 3, 5):
            assert found[f"acc_{k}"][query] == right[:k].any()
        votes = Counter(labels[order[:5]].tolist()).most_common()
        first = next(c for c in labels[order[:5]] if dict(votes)[c] == votes[0][1])
        assert found["mv_5"][query] == (first == wanted[query])
        truth = average_precision_score(labels == wanted[query], similar[query])
        assert found["map"][query] == pytest.approx(truth)
    cut = search(bank, labels, queries, wanted, relevant, 5)
    right = labels[np.argsort(-similar, axis=1)[:, :5]] == wanted[:, None]
    by_hand = [
        sum(row[: i + 1].mean() for i in range(5) if row[i]) / min(5, r)
        for row, r in zip(right, relevant, strict=True)
    ]
    np.testing.assert_allclose(cut["map"], by_hand)


def test_of_equal_votes_the_nearest_wins() -> None:
    rows = np.array([[1, 2, 2, 0, 1], [3, 0, 0, 1, 2], [2, 1, 0, 3, 4], [4, 4, 0, 0, 0]])
    assert majority(rows).tolist() == [1, 0, 2, 0]


def test_own_groups_are_not_found_and_lonely_classes_left_out(run: Path, tmp_path: Path) -> None:
    tiles = folder(tmp_path / "set", {"a": "p", "b": "b", "c": "p", "d": "b", "e": "p"})
    text = (
        (tiles / "labels.csv")
        .read_text()
        .replace("e-0.png,p", "e-0.png,rare")
        .replace("e-1.png,p", "e-1.png,rare")
    )
    (tiles / "labels.csv").write_text(text)
    result, units = retrieval_scored(load(run), tiles, k=5, baselines="colour")
    assert (result["test_tiles"], result["left_out_tiles"], result["groups"]) == (18, 2, 5)
    model, colour = result["results"]
    assert colour["acc_1"] > 0.9
    assert {key for name, key in units if name == "model"} == {*KEYS, "mv_5_balanced"}
    for key in KEYS:
        assert units["colour", key].figure(np.ones((1, 5)))[0] == pytest.approx(colour[key])
        assert colour["lead"][key] == pytest.approx(model[key] - colour[key])
    # 4 groups of pink or blue and 2 pink tiles of e: of 20 less its own, tiles of another group and its class
    chance = ((4 + 2) / 16 * 8 + 4 / 16 * 8 + 8 / 16 * 2) / 18
    assert result["chance"] == pytest.approx(chance)


def test_several_random_networks_have_a_range(run: Path, tmp_path: Path) -> None:
    tiles = folder(tmp_path / "set", {f"g{n}": "pb"[n % 2] for n in range(6)})
    settings = {"baselines": "random", "random_seeds": 3}
    results = [
        retrieval_scored(load(run), tiles, k=5, **settings).result,
        few_shot(load(run), tiles, shots="2", episodes=4, **settings),
        invariance(load(run), tiles, tiles=8, k=2, **settings),
    ]
    for result, key in zip(results, ("mv_5_balanced", "balanced_2", "found"), strict=True):
        model, random = result["results"]
        low, high = random[f"{key}_range"]
        assert low <= random[key] <= high
        assert f"{key}_range" not in model
    low, high = results[2]["results"][1]["cosine_range"]
    one = invariance(load(run), tiles, tiles=8, k=2, baselines="random", random_seeds=1)["results"][1]
    assert low < high
    assert low - 1e-6 <= one["cosine"] <= high + 1e-6
    assert "cosine_range" not in one


def test_what_is_refused(run: Path, tmp_path: Path) -> None:
    small = folder(tmp_path / "small", {"a": "p", "b": "b"}, each=2)
    with pytest.raises(UsageError, match="`k` 10: 2 tiles may be found"):
        retrieval(load(run), small)
    lonely = folder(tmp_path / "lonely", {"a": "p", "b": "b"}, each=6)
    with pytest.raises(UsageError, match="lonely: no class has tiles in two groups; nothing could be found"):
        retrieval(load(run), lonely, k=5)


def test_command(run: Path, tmp_path: Path) -> None:
    train, test = (
        folder(tmp_path / n, {f"{n}{i}": "pb"[i % 2] for i in range(4)}) for n in ("train", "test")
    )
    options = ["--train", str(train), "--test", str(test), "--baselines", "colour"]
    done = CliRunner().invoke(app, ["retrieval", str(run), *options], env={"COLUMNS": "140"})
    assert done.exit_code == 0, done.output
    assert "mAP@10" in done.stdout
    saved = json.loads((run / "evaluation" / "retrieval.json").read_text())
    assert saved["protocol"] == "by cosine; train to test"
