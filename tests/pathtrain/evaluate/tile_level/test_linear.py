"""The linear layer against scikit-learn and a plain loop; splits, preparation, intervals, the command."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.toys import BLUE, PINK, noise, write_dataset, write_run
from helpers.toys import labelled_folder as folder
from PIL import Image
from rich.console import Console
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torchvision.transforms import v2
from typer.testing import CliRunner

from pathprep import stain
from pathprep.errors import StainError, UsageError
from pathtrain.cli import evaluations as app
from pathtrain.cli.evaluate_linear import linear_tables
from pathtrain.data.whole_tiles import FolderTiles
from pathtrain.errors import TrainError
from pathtrain.evaluate.statistics import mean_interval
from pathtrain.evaluate.tile_level.labelled import Set, hold_out
from pathtrain.evaluate.tile_level.layers import _order, train_layer
from pathtrain.evaluate.tile_level.linear import evaluate, linear, prepared
from pathtrain.features.encode import check_short
from pathtrain.images import resize_and_crop
from pathtrain.params.encoding import How
from pathtrain.params.layers import LayerParams
from pathtrain.runs.opening import load

CPU = torch.device("cpu")
FEW = {"iterations": 60, "sgd_batch": 8, "seeds": 2}


def order(count: int, settings: LayerParams, seed: int) -> np.ndarray:
    return _order(np.arange(count), settings, np.random.default_rng(seed))


def blobs(count: int, apart: float, seed: int, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of normal features."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (apart * np.eye(dim)[labels] + rng.normal(size=(count, dim))).astype(np.float32), labels


def test_it_finds_the_solution_of_logistic_regression() -> None:
    """Without weight decay, overlapping classes have one best layer; enough steps of a fading lr reach it."""
    features, labels = blobs(300, 2, seed=0)
    settings = LayerParams(iterations=3000, batch=300, seeds=2, lr=0.3)
    layer = train_layer(features, labels, 3, settings, 0, CPU)
    best = LogisticRegression(C=np.inf, tol=1e-8, max_iter=2000).fit(features, labels)
    queries, _ = blobs(200, 2, seed=1)
    logits = torch.from_numpy(queries) @ layer.weight + layer.bias
    for one in torch.softmax(logits, dim=2).numpy():
        np.testing.assert_allclose(one, best.predict_proba(queries), atol=5e-3)
    assert (layer.classes(queries) == best.predict(queries)).mean() > 0.99


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_seeds_together_are_seeds_alone_and_plain_torch(schedule: str) -> None:
    features, labels = blobs(50, 1, seed=0)
    settings = LayerParams(iterations=40, batch=16, seeds=3, schedule=schedule, weight_decay=0.01)
    layer = train_layer(features, labels, 3, settings, 5, CPU)
    for number in range(3):
        seed = 5 + number
        alone = train_layer(features, labels, 3, replace(settings, seeds=1), seed, CPU)
        torch.testing.assert_close(alone.weight[0], layer.weight[number])
        plain = torch.nn.Linear(6, 3)
        with torch.no_grad():
            first = torch.empty(6, 3).normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
            plain.weight.copy_(first.T)
            plain.bias.zero_()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        fading = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
        for rows in order(50, settings, seed):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                plain(torch.from_numpy(features[rows])), torch.from_numpy(labels[rows])
            )
            loss.backward()
            optimizer.step()
            if schedule == "cosine":
                fading.step()
        torch.testing.assert_close(plain.weight.T, layer.weight[number], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(plain.bias, layer.bias[number, 0], atol=1e-5, rtol=1e-4)


def test_order_is_permutations_one_after_the_other() -> None:
    rows = order(10, LayerParams(iterations=7, batch=6), seed=0).ravel()
    for start in range(0, 40, 10):
        assert sorted(rows[start : start + 10]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:20])
    assert not np.array_equal(order(10, LayerParams(iterations=7, batch=6), seed=1).ravel(), rows)


def test_scores_are_means_of_the_seeds() -> None:
    features, labels = blobs(60, 0.5, seed=0)
    bank = Set({"model": [features]}, labels, np.arange(60) // 3)
    queries = Set({"model": [blobs(45, 0.5, seed=1)[0]]}, np.arange(45) % 3, np.arange(45) // 5)
    settings = LayerParams(iterations=5, seeds=4, batch=4, lr=1)
    (row,) = evaluate(bank, queries, list("abc"), settings, 0, CPU)
    assert len(set(row["accuracy_seeds"])) > 1
    assert row["accuracy"] == pytest.approx(np.mean(row["accuracy_seeds"]))
    assert row["balanced"] == pytest.approx(np.mean(row["balanced_seeds"]))
    assert row["accuracy"] == pytest.approx(row["balanced"])  # classes of one size
    low, high = row["accuracy_interval"]
    assert low < row["accuracy"] < high


def test_interval_of_a_mean_is_students() -> None:
    values = [0.7, 0.72, 0.75, 0.71, 0.69]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
    assert mean_interval([0.7]) is None


def test_weights_that_are_not_finite_are_no_result() -> None:
    features, labels = blobs(30, 1, seed=0)
    bank = Set({"model": [features * 1e30]}, labels, np.arange(30))
    with pytest.raises(TrainError, match="linear layer on model is not finite after training; lower `lr`"):
        evaluate(bank, bank, list("abc"), LayerParams(iterations=20, lr=1e30), 0, CPU)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (300, 400), (257, 256)])
def test_preparation_is_torchvisions(height: int, width: int) -> None:
    image = np.kron(noise(1, 128)[0], np.ones((4, 4, 1), np.uint8))[:height, :width]
    steps = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(224)])
    expected = np.asarray(steps(Image.fromarray(image))).astype(int)
    found = resize_and_crop(np.ascontiguousarray(image), 256, 224)
    assert found.shape == (224, 224, 3)
    assert np.abs(found - expected).max() <= 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


def test_train_and_test_folders(run: Path, tmp_path: Path) -> None:
    train = folder(tmp_path / "train", {"g1": "p", "g2": "b", "g3": "b"})
    test = folder(tmp_path / "test", {"g4": "p", "g5": "b"})
    result = linear(load(run), train, test, whole=True, **FEW)
    assert (result["protocol"], result["resize"], result["crop"]) == ("all of train to test", 37, 32)
    assert (result["train_tiles"], result["test_tiles"], result["groups"]) == (12, 8, 2)
    rows = {row["name"]: row for row in result["results"]}
    assert list(rows) == ["model", "start", "random", "colour", "colour+LBP"]
    assert rows["colour"]["accuracy"] == rows["colour"]["balanced"] == 1.0
    assert rows["model"]["accuracy"] > 0.8  # colours this far apart survive any network
    assert result["stain"][str(train)] == "as stored: the model was trained on plain tiles"
    assert "schedule" in result["unknown"]
    assert result == linear(load(run), train, test, whole=True, **FEW)
    json.dumps(result)
    few = folder(tmp_path / "few", {"g1": "p", "g2": "b"})
    with pytest.raises(UsageError, match="cannot be split 80:20 .* label more, or give `whole`"):
        linear(load(run), few, test, **FEW)


def test_with_a_test_set_80_per_cent_of_the_groups_are_learnt_from(run: Path, tmp_path: Path) -> None:
    """Scores are those of the layers that see only the groups that are kept."""
    train = folder(tmp_path / "train", {f"g{number}": "pb"[number % 2] for number in range(20)})
    test = folder(tmp_path / "test", {"h1": "p", "h2": "b"})
    few = {**FEW, "baselines": "none"}
    result = linear(load(run), train, test, **few)
    assert (result["protocol"], result["train_tiles"]) == ("80 % of train, by group, to test", 64)
    assert (result["left_out_tiles"], result["train_groups"], result["test_tiles"]) == (16, 16, 8)
    every = linear(load(run), train, test, whole=True, **few)
    assert (every["train_tiles"], every["left_out_tiles"], every["train_groups"]) == (80, 0, 20)


def test_shared_groups_are_refused_and_named(run: Path, tmp_path: Path) -> None:
    names = {f"g{number}": "pb"[number % 2] for number in range(5)}
    train, test = folder(tmp_path / "train", names), folder(tmp_path / "test", names)
    with pytest.raises(UsageError, match=r"test: shares groups g0, g1, g2 with .*train \(5 in all\)"):
        linear(load(run), train, test, **FEW)
    with pytest.raises(UsageError, match="is both training and test set"):
        linear(load(run), train, train, **FEW)


def test_files_of_one_name_are_not_one_group(run: Path, tmp_path: Path) -> None:
    names = {"g1": "p", "g2": "b"}
    train, test = folder(tmp_path / "train", names, False), folder(tmp_path / "test", names, False)
    result = linear(load(run), train, test, **FEW)
    assert (result["groups"], result["group_kind"]) == (8, "tile")
    assert result["protocol"] == "80 % of train, by tile, to test"
    console = Console(file=io.StringIO(), width=120)
    console.print(linear_tables(result))
    assert "The tiles have no groups" in console.file.getvalue()  # type: ignore[attr-defined]
    alone = linear(load(run), folder(tmp_path / "alone", {"g1": "p", "g2": "b"}, False), **FEW)
    assert alone["protocol"] == "80:20 by tile"


def test_without_a_test_set_a_fifth_is_held_out_by_group(run: Path, tmp_path: Path) -> None:
    names = {f"g{number}": "pb"[number % 2] for number in range(20)}
    result = linear(load(run), folder(tmp_path / "train", names), **FEW)
    assert result["protocol"] == "80:20 by group"
    assert (result["train_tiles"], result["test_tiles"], result["train_groups"], result["groups"]) == (
        64,
        16,
        16,
        4,
    )
    assert result["results"][3]["accuracy"] == 1.0


@pytest.mark.parametrize("size", [1, 5])
def test_held_out_groups_are_whole_and_classes_kept(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.permutation([0] * 30 + [1] * 10), size)
    tiles = Set({"model": [np.arange(len(labels))[:, None]]}, labels, np.arange(len(labels)) // size)  # type: ignore[dict-item]
    source = FolderTiles(folder(tmp_path / "train", {"g": "p"}))
    large, small = hold_out(tiles, ["a", "b"], source, seed=0)
    assert not set(large.group) & set(small.group)
    rows = np.concatenate([large.features["model"][0], small.features["model"][0]])[:, 0]
    assert sorted(rows) == list(range(len(labels)))
    assert len(small.labels) == len(labels) // 5
    assert (small.labels == 1).mean() == pytest.approx(0.25)
    assert not np.array_equal(hold_out(tiles, ["a", "b"], source, seed=1)[1].group, small.group)


@pytest.mark.parametrize("groups", [[0, 0, 0, 0], [0, 0, 1, 1]])
def test_too_few_groups_to_split(tmp_path: Path, groups: list[int]) -> None:
    tiles = Set({}, np.array([0, 0, 1, 1]), np.array(groups))
    with pytest.raises(UsageError, match="cannot be split 80:20 with every class in the larger part"):
        hold_out(tiles, ["a", "b"], FolderTiles(folder(tmp_path / "t", {"g": "p"})), seed=0)


def test_sizes(run: Path) -> None:
    model = load(run)
    assert (prepared(model, How(size=224)).short, prepared(model, How()).size) == (256, 32)
    with pytest.raises(UsageError, match="`resize` 30: must be at least the crop, 32 pixels"):
        check_short(How(short=30), 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "`lr`"),
        ({"momentum": 1.0}, "`momentum`"),
        ({"weight_decay": -1.0}, "`weight_decay`"),
        ({"schedule": "step"}, "`schedule` is 'step'; expected cosine, constant"),
        ({"iterations": 0}, "`iterations`"),
        ({"seeds": 0}, "`seeds`"),
    ],
)
def test_wrong_settings(run: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        linear(load(run), tmp_path, **{**FEW, **change})


def test_command(run: Path, tmp_path: Path) -> None:
    slides = {
        f"{name}{i}": noise(6, colour=c, seed=i) for name, c in (("p", PINK), ("b", BLUE)) for i in range(5)
    }
    dataset = write_dataset(tmp_path / "dataset", slides)
    (tmp_path / "labels.csv").write_text("slide,label\n" + "".join(f"{name},{name[0]}\n" for name in slides))
    options = ["--labels", str(tmp_path / "labels.csv"), "--iterations", "50", "--seeds", "2"]
    command = ["linear", str(run), "--train", str(dataset), *options]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    assert "The paper does not state its lr schedule: cosine here." in done.stdout
    assert "was trained on plain tiles: tiles are taken as they are stored" in done.stderr
    saved = json.loads((run / "evaluation" / "linear.json").read_text())
    assert (saved["protocol"], saved["group_kind"], saved["settings"]["iterations"]) == (
        "80:20 by slide",
        "slide",
        50,
    )
    assert len(saved["results"][0]["accuracy_seeds"]) == 2


def test_target_normalises_a_plain_model(run: Path, stained: Callable[..., Path], tmp_path: Path) -> None:
    """Macenko for any model, to a target that is named; statuses are counted."""
    (tmp_path / "labels.csv").write_text("slide,label\ndark,a\nfine,b\nmixed,a\nflat,b\n")
    goal = tmp_path / "goal.json"
    stain.Target.default().save(goal)
    options = ["--labels", str(tmp_path / "labels.csv"), "--iterations", "5", "--seeds", "1"]
    train = ["--train", str(stained("none"))]
    for name in ("reference", str(goal)):
        command = [
            "linear",
            str(run),
            *train,
            *options,
            "--target",
            name,
            "--out-json",
            str(tmp_path / "out.json"),
        ]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        saved = json.loads((tmp_path / "out.json").read_text())
        (statuses,) = saved["stain"].values()
        assert statuses.keys() == {"fitted", "slide_fit", "unfitted"}
        assert sum(statuses.values()) == saved["train_tiles"] + saved["test_tiles"]
        assert saved["model"]["target"]["max_c"] == [1.9705, 1.0308]
        assert saved["results"][0]["accuracy_seeds_interval"] is None
    wrong = CliRunner().invoke(app, ["linear", str(run), *train, *options, "--target", "nowhere.json"])
    assert isinstance(wrong.exception, StainError)
