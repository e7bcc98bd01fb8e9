"""The weighted vote, leave-one-slide-out, splits, baselines and intervals, on clusters with known answers."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.toys import noise, write_dataset, write_run
from sklearn.neighbors import NearestNeighbors
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.evaluate import statistics
from pathtrain.evaluate.statistics import neighbours
from pathtrain.evaluate.tile_level.knn import TEMPERATURE, knn, vote
from pathtrain.evaluate.tile_level.labelled import Set, score
from pathtrain.runs.opening import load

PINK, BLUE = (220, 120, 180), (90, 90, 200)


def clusters(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three tight directions in 8 dimensions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (np.eye(8)[labels] + rng.normal(0, 0.05, (n, 8))).astype(np.float32), labels


def test_a_lead_over_few_groups_lies_within_what_it_can_be() -> None:
    labels, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    guesses = {"model": labels[None, None], "colour": np.array([[[0, 1, 1, 0]]])}
    found = score(guesses, Set({}, labels, group), ["x", "y"], 0)[1]["lead"]
    assert found["accuracy"] == 0.5
    assert found["accuracy_interval"] == [-1.0, 1.0]  # Student's t of 2 groups is wider than all there is


def test_separated_clusters_are_all_right() -> None:
    bank, labels = clusters(300)
    queries, truth = clusters(50, seed=1)
    assert (vote(bank, labels, queries, 20, 3) == truth).all()


def test_vote_is_weighted_by_similarity() -> None:
    # one neighbour at cosine 1 against two at 0.9: exp(1 / .07) > 2 exp(.9 / .07), since exp(.1 / .07) is 4.2
    near = [0.9, np.sqrt(1 - 0.81)]
    bank = np.array([[1, 0], near, near], np.float32)
    labels = np.array([1, 0, 0])
    query = np.array([[2, 0]], np.float32)
    assert np.exp(0.1 / TEMPERATURE) > 2
    assert vote(bank, labels, query, 3, 2) == [1]
    # at 0.97 two outvote one
    bank[1:] = [0.97, np.sqrt(1 - 0.97**2)]
    assert vote(bank, labels, query, 3, 2) == [0]


def test_neighbours_are_exact_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    bank, queries = (
        rng.normal(size=(200, 16)).astype(np.float32),
        rng.normal(size=(50, 16)).astype(np.float32),
    )
    _, expected = (
        NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(bank).kneighbors(queries)
    )
    monkeypatch.setattr(statistics, "BLOCK", 16)
    found = [
        rows for _, _, rows in neighbours(bank, queries, 5, lambda p: np.zeros((p.stop - p.start, 200), bool))
    ]
    assert (np.concatenate(found) == expected).all()


def test_banned_rows_do_not_vote() -> None:
    bank, labels = clusters(30)
    group = np.arange(30) // 15
    # the first group is labelled wrongly: alone its rows agree with themselves, without it they are corrected
    given = np.where(group == 0, (labels + 1) % 3, labels)
    assert (vote(bank, given, bank, 1, 3) == given).all()
    corrected = vote(bank, given, bank, 5, 3, lambda part: group[part, None] == group)
    assert (corrected[:15] == labels[:15]).all()
    assert (corrected[15:] == (labels[15:] + 1) % 3).all()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four slides, two pink and two blue, told apart by colour."""
    slides = {f"pink{i}": noise(12, colour=PINK, seed=i) for i in (1, 2)}
    slides |= {f"blue{i}": noise(12, colour=BLUE, seed=10 + i) for i in (1, 2)}
    return write_dataset(tmp_path / "dataset", slides)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label\npink1,p\npink2,p\nblue1,b\nblue2,b\n")
    return path


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)


def test_leave_one_slide_out_and_baselines(run: Path, dataset: Path, csv: Path) -> None:
    result = knn(load(run), dataset, labels=csv, k=5)
    assert result["protocol"] == "leave one slide out"
    assert (result["train_tiles"], result["test_tiles"], result["groups"]) == (48, 48, 4)
    assert result["majority"] == 0.5
    model, start, random, colour, texture = result["results"]
    assert [row["name"] for row in result["results"]] == ["model", "start", "random", "colour", "colour+LBP"]
    assert colour["accuracy"] == colour["balanced"] == 1.0
    assert colour["accuracy_interval"] == [1.0, 1.0]
    assert texture["lead"]["accuracy"] == model["accuracy"] - texture["accuracy"]
    # the run begins with random weights of seed 0, which are its start and none of the others
    assert result["baselines"] == {"start": {"init": "random", "seed": 0}, "random": {"seeds": [1, 2, 3]}}
    for row in (model, start, random):
        assert row["accuracy"] > 0.8  # colours this far apart survive any network
        low, high = row["accuracy_interval"]
        assert low <= row["accuracy"] <= high
        assert set(row["per_class"]) == {"b", "p"}
    json.dumps(result)


def test_class_of_one_slide_cannot_be_found_when_that_slide_is_out(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "one.csv"
    path.write_text("slide,label\npink1,only\npink2,p\nblue1,b\nblue2,b\n")
    (_, colour) = knn(load(run), dataset, labels=path, k=5, baselines="colour")["results"]
    assert colour["per_class"]["only"]["recall"] == 0.0
    assert colour["per_class"]["b"]["recall"] == 1.0


def image_folder(path: Path, groups: dict[str, str]) -> Path:
    from PIL import Image

    path.mkdir()
    rows = ["file,label,group"]
    for seed, (group, label) in enumerate(groups.items()):
        for number, tile in enumerate(noise(4, colour=PINK if label == "p" else BLUE, seed=seed)):
            Image.fromarray(tile).save(path / f"{group}-{number}.png")
            rows.append(f"{group}-{number}.png,{label},{group}")
    (path / "labels.csv").write_text("\n".join(rows))
    return path


def test_train_and_test_folders(run: Path, tmp_path: Path) -> None:
    train = image_folder(tmp_path / "train", {"g1": "p", "g2": "b", "g3": "b"})
    test = image_folder(tmp_path / "test", {"g4": "p", "g5": "b"})
    result = knn(load(run), train, test, k=3)
    assert result["protocol"] == "train to test"
    assert (result["resize"], result["crop"]) == (32, None)
    cropped = knn(load(run), train, test, k=3, resize=40, baselines="none")
    assert (cropped["resize"], cropped["crop"]) == (40, 32)
    with pytest.raises(UsageError, match="`resize` 30: must be at least the crop, 32 pixels"):
        knn(load(run), train, test, k=3, resize=30)
    assert (result["train_tiles"], result["test_tiles"], result["majority"]) == (12, 8, 0.5)
    assert result["results"][3]["accuracy"] == 1.0


def test_shared_group_is_refused(run: Path, tmp_path: Path) -> None:
    train = image_folder(tmp_path / "train", {"g1": "p", "g2": "b"})
    test = image_folder(tmp_path / "test", {"g2": "p", "g3": "b"})
    with pytest.raises(UsageError, match=r"test: shares group g2 with .*train \(1 in all\)"):
        knn(load(run), train, test)


def test_class_that_only_the_test_set_has(run: Path, tmp_path: Path) -> None:
    train = image_folder(tmp_path / "train", {"g1": "p", "g2": "b"})
    test = image_folder(tmp_path / "test", {"g3": "q", "g4": "b"})
    with pytest.raises(UsageError, match="class q has no tile in"):
        knn(load(run), train, test)


@pytest.mark.parametrize(("k", "allowed"), [(0, 36), (37, 36)])
def test_k_beyond_the_tiles_that_may_vote(run: Path, dataset: Path, csv: Path, k: int, allowed: int) -> None:
    with pytest.raises(UsageError, match=f"`k` {k}: must be 1 to {allowed}"):
        knn(load(run), dataset, labels=csv, k=k)


def test_command_writes_into_the_run(run: Path, dataset: Path, csv: Path, tmp_path: Path) -> None:
    arguments = ["knn", str(run), "--train", str(dataset), "--labels", str(csv), "--k", "5"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "Model less each baseline" in done.stdout
    assert "start: what training began with, random, seed 0" in done.stdout
    assert "leave one slide out" in done.stdout
    saved = json.loads((run / "evaluation" / "knn.json").read_text())
    assert saved == json.loads(json.dumps(knn(load(run), dataset, labels=csv, k=5)))
    CliRunner().invoke(app, [*arguments, "--out-json", str(tmp_path / "deep" / "other.json")])
    assert json.loads((tmp_path / "deep" / "other.json").read_text()) == saved


@pytest.mark.realdata
@pytest.mark.slow
def test_real_tiles_split_by_group(run: Path, data: Path) -> None:
    tiles = data / "tiles"
    result = knn(load(run), tiles / "train", tiles / "test", batch=256, baselines="random,colour")
    assert (result["train_tiles"], result["test_tiles"], len(result["classes"])) == (1763, 716, 5)
    assert result["results"][2]["accuracy"] > 0.6  # colour alone goes far on this set
