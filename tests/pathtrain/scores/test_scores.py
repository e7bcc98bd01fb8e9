"""Scores of tiles from their features: with known answers, and read back as `pathprep view` reads them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.commands import command
from helpers.featured import write_features, write_labels
from sklearn.linear_model import LogisticRegression

from pathprep.errors import UsageError
from pathprep.scores.columns import Classes
from pathprep.scores.placed import place
from pathprep.scores.read import read_scores
from pathtrain import scores
from pathtrain.scores.by_class import votes

DIM = 6


def blobs(tiles: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features around three far points, and which one each is around."""
    rng = np.random.default_rng(seed)
    which = rng.integers(3, size=tiles)
    return (8 * np.eye(3, DIM)[which] + rng.normal(size=(tiles, DIM))).astype(np.float32), which


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return write_features(tmp_path / "features", {name: blobs(40, n)[0] for n, name in enumerate(["a", "b"])})


def labelled(root: Path, tiles: int = 60) -> Path:
    """As `pathtrain embed` writes those of a labelled tile set: with labels, without places."""
    vectors, which = blobs(tiles, 9)
    root.mkdir()
    with h5py.File(root / "set.h5", "w") as file:
        file["features"] = vectors
        names = np.array([*(f"class {n}" for n in which[:-1]), ""], dtype=object)  # the last has none
        file["labels"] = names.astype(h5py.string_dtype())
    return root


def read(path: Path, slide: str) -> dict[str, Any]:
    """Columns of a slide, after the checks that the viewer makes."""
    return place(path, slide, read_scores(path).only(slide), 320, 200).rows.columns


@pytest.mark.parametrize("probe", ["linear", "knn"])
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_probabilities_of_classes(tmp_path: Path, features: Path, probe: Any, ending: str) -> None:
    out = tmp_path / f"s.{ending}"
    made = scores.classes(features, labelled(tmp_path / "set"), out, probe=probe)
    assert sum(made.trained.values()) == 59
    assert (made.tiles, made.slides) == (80, 2)
    for number, slide in enumerate(["a", "b"]):
        columns = read(out, slide)
        assert list(columns) == ["class", "p class 0", "p class 1", "p class 2"]
        found = columns["class"]
        assert isinstance(found, Classes)
        assert [found.names[code] for code in found.codes] == [f"class {n}" for n in blobs(40, number)[1]]
        total = sum(columns[f"p class {n}"] for n in range(3))
        np.testing.assert_allclose(total, 1, atol=1e-5)


def test_votes_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(7, 5)).astype(np.float32)
    labels = rng.integers(3, size=30)
    found = votes(bank, labels, queries, 6, 3)
    for query, shares in zip(queries, found, strict=True):
        cosine = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
        expected = np.zeros(3)
        for row in np.argsort(-cosine)[:6]:
            expected[labels[row]] += np.exp(cosine[row] / 0.07)
        np.testing.assert_allclose(shares, expected / expected.sum(), rtol=1e-4)


def test_labels_of_tiles_and_of_slides(tmp_path: Path, features: Path) -> None:
    _, which = blobs(40, 0)
    rows = [
        {"slide": "a", "x": i % 10 * 32, "y": i // 10 * 32, "label": f"class {n}"}
        for i, n in enumerate(which)
    ]
    by_tile = write_labels(tmp_path / "tiles.csv", rows)
    made = scores.classes(features, features, tmp_path / "s.parquet", labels=by_tile)
    assert sum(made.trained.values()) == 40
    whole = write_labels(
        tmp_path / "slides.csv", [{"slide": "a", "label": "x"}, {"slide": "b.svs", "label": "y"}]
    )
    made = scores.classes(features, features, tmp_path / "s.parquet", labels=whole)
    assert made.trained == {"x": 40, "y": 40}


def test_what_does_not_fit(tmp_path: Path, features: Path) -> None:
    out = tmp_path / "s.parquet"
    with pytest.raises(UsageError, match="holds no labels; give `labels`"):
        scores.classes(features, features, out)
    with pytest.raises(UsageError, match=r"end its name in \.parquet or \.csv"):
        scores.clusters(features, tmp_path / "s.xlsx")
    with pytest.raises(UsageError, match="`k` 60: must be 1 to 59"):
        scores.classes(features, labelled(tmp_path / "set"), out, probe="knn", k=60)
    other = write_features(tmp_path / "other", {"a": np.zeros((4, DIM + 1), np.float32)})
    with pytest.raises(UsageError, match="give one model's"):
        scores.classes(other, tmp_path / "set", out)
    vectors = write_features(tmp_path / "vectors", {"a": np.zeros(DIM, np.float32)})
    with pytest.raises(UsageError, match="one vector per slide"):
        scores.clusters(vectors, out)
    with pytest.raises(UsageError, match="does not say where its tiles lie"):
        scores.clusters(tmp_path / "set", out, count=3)
    with pytest.raises(UsageError, match="none of its tiles lies where a label says"):
        table = write_labels(tmp_path / "t.csv", [{"slide": "a", "x": 1, "y": 1, "label": "x"}])
        scores.classes(features, features, out, labels=table)
    for bag, mark in (("a", "one"), ("b", "two")):
        with h5py.File(features / f"{bag}.h5", "a") as file:
            file.attrs["fingerprint"] = mark
    two = write_features(tmp_path / "two", {"b": blobs(40, 1)[0]})
    with h5py.File(two / "b.h5", "a") as file:
        file.attrs["fingerprint"] = "two"
    table = write_labels(tmp_path / "u.csv", [{"slide": "a", "label": "x"}, {"slide": "b", "label": "y"}])
    with pytest.raises(UsageError, match="are of two models"):
        scores.classes(two, features, out, labels=table)
    assert not out.exists()


def test_clusters_are_those_that_are_there(tmp_path: Path, features: Path) -> None:
    made = scores.clusters(features, tmp_path / "s.parquet", count=3)
    (sizes,) = made.sizes
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 80
    together = set()
    for number, slide in enumerate(["a", "b"]):
        column = read(tmp_path / "s.parquet", slide)["cluster"]
        assert isinstance(column, Classes)
        assert column.names == ("cluster 1", "cluster 2", "cluster 3")
        together |= set(zip(column.codes.tolist(), blobs(40, number)[1].tolist(), strict=True))
    assert len(together) == 3  # one cluster for each point, on both slides
    scores.clusters(features, tmp_path / "again.parquet", count=3)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "s.parquet").read_bytes()
    levels = scores.clusters(features, tmp_path / "s.csv", count=[6, 2])
    assert [len(each) for each in levels.sizes] == [6, 2]
    assert list(read(tmp_path / "s.csv", "a")) == ["cluster of 6", "cluster of 2"]
    with pytest.raises(UsageError, match="give 2 to 80 clusters"):
        scores.clusters(features, tmp_path / "s.csv", count=81)


def test_likeness_to_a_tile(tmp_path: Path, features: Path) -> None:
    made = scores.similar(features, "a", 33, 40, tmp_path / "s.parquet")
    assert made.tile == ("a", 32, 32)
    vectors = blobs(40, 0)[0]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(read(tmp_path / "s.parquet", "a")["similarity"], unit @ unit[11], atol=1e-5)
    with pytest.raises(UsageError, match="no tile lies over 5000,0"):
        scores.similar(features, "a", 5000, 0, tmp_path / "s.parquet")


def test_commands(tmp_path: Path, features: Path) -> None:
    out = tmp_path / "s.parquet"
    done = command("pathtrain", "scores", "clusters", features, "--count", "3", "--out", out, "--json")
    assert done.code == 0
    assert '"tiles": 80' in done.out
    done = command("pathtrain", "scores", "similar", features, "--slide", "a", "--at", "0,0", "--out", out)
    assert (done.code, "compared with that at 0, 0 of a" in done.out) == (0, True)
    done = command("pathtrain", "scores", "similar", features, "--slide", "a", "--at", "here", "--out", out)
    assert (done.code, "--at here: give two whole numbers" in done.err) == (2, True)
    done = command(
        "pathtrain", "scores", "classes", features, "--train", labelled(tmp_path / "set"), "--out", out
    )
    assert (done.code, "class 0: " in done.out) == (0, True)


def test_the_probe_is_scikit_learns(tmp_path: Path, features: Path) -> None:
    bank = labelled(tmp_path / "set")
    scores.classes(features, bank, tmp_path / "s.parquet")
    vectors, which = blobs(60, 9)
    vectors, which = vectors[:-1].astype(np.float64), which[:-1]
    mean, sd = vectors.mean(axis=0), vectors.std(axis=0)
    head = LogisticRegression(max_iter=5000).fit((vectors - mean) / sd, which)
    expected = head.predict_proba((blobs(40, 0)[0].astype(np.float64) - mean) / sd)
    columns = read(tmp_path / "s.parquet", "a")
    np.testing.assert_allclose([columns[f"p class {n}"] for n in range(3)], expected.T, atol=1e-5)
