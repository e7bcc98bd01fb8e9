"""Feature collapse on features with known answers: slides apart, slides mixed, scikit-learn's silhouette."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.toys import noise, write_dataset, write_run
from PIL import Image
from sklearn.metrics import silhouette_samples
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.evaluate.tile_level import tsne
from pathtrain.evaluate.tile_level.collapse import Sample, collapse, measure, measured, sample, silhouette
from pathtrain.params.evaluation import CollapseParams
from pathtrain.runs.export import export
from pathtrain.runs.opening import load


def gaussians(sizes: list[int], apart: float, seed: int = 0) -> Sample:
    """A slide per size; slide s lies ``apart`` along axis s."""
    rng = np.random.default_rng(seed)
    slide = np.repeat(np.arange(len(sizes)), sizes)
    features = rng.normal(size=(len(slide), 8)) + apart * np.eye(8)[slide]
    return Sample(features.astype(np.float32), slide, [f"s{number}" for number in range(len(sizes))])


def test_two_separated_slides() -> None:
    result = measure(gaussians([60, 60], apart=50), k=10, seed=0)
    assert result["own_share"] == 1.0
    assert result["own_share_interval"] == [1.0, 1.0]
    assert result["chance"] == pytest.approx(59 / 119)
    assert result["ratio"] == pytest.approx(119 / 59)
    assert result["excess"] == 1.0  # whatever chance is
    assert result["excess_interval"] == [1.0, 1.0]
    assert result["silhouette"] > 0.9
    assert "within" not in result


def test_slides_that_mix_are_at_chance() -> None:
    result = measure(gaussians([400, 400, 400], apart=0), k=20, seed=0)
    # 24,000 neighbours, not independent: the SD is below 0.01
    assert result["own_share"] == pytest.approx(result["chance"], abs=0.03)
    assert result["ratio"] == pytest.approx(1, abs=0.1)
    assert abs(result["excess"]) < 0.05
    assert abs(result["silhouette"]) < 0.02


def test_excess_compares_samples_of_other_slides() -> None:
    """Half of the neighbours are of the own slide beyond chance, with 2 slides or 8: the ratio differs."""
    few, many = (measure(gaussians([80] * count, apart=2.2), k=10, seed=0) for count in (2, 8))
    assert many["ratio"] > 2 * few["ratio"]
    assert many["excess"] < 1
    assert many["excess"] == pytest.approx((many["own_share"] - 79 / 639) / (1 - 79 / 639))
    slide = many["slides"]["s3"]
    assert slide["excess"] == pytest.approx((slide["own_share"] - slide["chance"]) / (1 - slide["chance"]))


def labelled(by_slide: float, by_class: float, composition: np.ndarray) -> Sample:
    """Tiles of slides (rows) by class (columns); slides lie apart along axes, classes along others."""
    rng = np.random.default_rng(0)
    slide = np.repeat(np.arange(len(composition)), composition.sum(axis=1))
    labels = np.concatenate([np.repeat(np.arange(composition.shape[1]), row) for row in composition])
    features = rng.normal(size=(len(slide), 12)) + by_slide * np.eye(12)[slide]
    features += by_class * np.eye(12)[-1 - labels]
    names = [f"s{number}" for number in range(len(composition))]
    return Sample(features.astype(np.float32), slide, names, labels, list("xyz")[: composition.shape[1]])


def test_slides_of_one_tissue_each_are_no_collapse_within_a_class() -> None:
    """Slides 0 and 1 are of class x, 2 and 3 of y: features of content alone put each beside its own pair."""
    tissue = measure(labelled(0, 12, np.array([[60, 0], [60, 0], [0, 60], [0, 60]])), 10, 0)
    assert tissue["excess"] > 0.25  # half of a pair is the own slide: by chance it would be a quarter
    assert abs(tissue["within"]["excess"]) < 0.06
    assert tissue["within"]["chance"] == pytest.approx(59 / 119)
    assert tissue["content"]["balanced"] > 0.98
    stain = measure(labelled(12, 0, np.array([[30, 30]] * 4)), 10, 0)
    assert stain["excess"] > 0.95
    assert stain["within"]["excess"] > 0.95
    assert stain["content"]["balanced"] < 0.7


def test_within_a_class_by_brute_force() -> None:
    taken = labelled(1.5, 1, np.array([[20, 10, 9], [15, 25, 0], [12, 0, 0]]))
    assert taken.labels is not None
    taken.labels[:3] = -1  # unlabelled tiles count for nothing
    found = measure(taken, 5, 0)["within"]
    unit = taken.features / np.linalg.norm(taken.features, axis=1, keepdims=True)
    near, own, chance = unit @ unit.T, [], []
    for row in np.flatnonzero(taken.labels >= 0):
        if taken.labels[row] == 2:
            continue  # of slide s0 alone
        others = np.flatnonzero((taken.labels == taken.labels[row]) & (np.arange(len(near)) != row))
        best = others[np.argsort(-near[row, others])[:5]]
        own.append((taken.slide[best] == taken.slide[row]).mean())
        chance.append((taken.slide[others] == taken.slide[row]).mean())
    assert found["classes"] == ["x", "y"]
    assert found["own_share"] == pytest.approx(np.mean(own))
    assert found["chance"] == pytest.approx(np.mean(chance))
    assert found["excess"] == pytest.approx((np.mean(own) - np.mean(chance)) / (1 - np.mean(chance)))
    alone = measure(labelled(0, 0, np.array([[20, 0], [0, 20]])), 5, 0)
    assert alone["within"] is None


def test_chance_counts_slides_of_unequal_size() -> None:
    taken = gaussians([500, 100], apart=0)
    result = measure(taken, k=20, seed=0)
    expected = (500 * 499 + 100 * 99) / (600 * 599)
    assert result["chance"] == pytest.approx(expected)
    assert result["slides"]["s1"]["chance"] == pytest.approx(99 / 599)
    assert result["own_share"] == pytest.approx(expected, abs=0.03)
    # over every order of the slides' labels the mean own share is exactly that
    rng = np.random.default_rng(1)
    shares = [
        measure(Sample(taken.features[:60], rng.permutation([0] * 40 + [1] * 20), ["a", "b"]), 5, 0)[
            "own_share"
        ]
        for _ in range(30)
    ]
    assert np.mean(shares) == pytest.approx((40 * 39 + 20 * 19) / (60 * 59), abs=0.03)


def test_silhouette_is_sklearns() -> None:
    taken = gaussians([30, 50, 20], apart=1)
    expected = silhouette_samples(taken.features, taken.slide, metric="cosine")
    np.testing.assert_allclose(silhouette(taken.features, taken.slide), expected, atol=1e-6)


def test_identical_features_are_not_a_number_nowhere() -> None:
    taken = Sample(np.ones((20, 4), np.float32), np.repeat([0, 1], 10), ["a", "b"])
    assert silhouette(taken.features, taken.slide) == pytest.approx(np.zeros(20), abs=1e-6)
    assert np.isfinite(measure(taken, 5, 0)["ratio"])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three slides of clearly different colours, one slide of a single tile."""
    colours = {"a": (220, 120, 180), "b": (90, 90, 200), "c": (120, 200, 120)}
    slides = {name: noise(30, colour=colour, seed=len(name)) for name, colour in colours.items()}
    return write_dataset(tmp_path / "dataset", {**slides, "single": noise(1)})


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)


def test_slides_of_one_colour_each_collapse(run: Path, dataset: Path) -> None:
    result, taken = measured(load(run), dataset, CollapseParams(tiles_per_slide=20, k=5))
    assert (result["tiles"], taken.slides) == (60, ["a", "b", "c"])
    assert result["chance"] == pytest.approx(19 / 59)
    assert result["own_share"] > 0.8
    low, high = result["ratio_interval"]
    assert low <= result["ratio"] <= high
    json.dumps(result)


def test_sample_is_seeded_and_independent_of_other_slides(dataset: Path, tmp_path: Path) -> None:
    tiles = DatasetTiles(dataset)
    order = sample(tiles, 20, seed=0)
    assert (order == sample(tiles, 20, seed=0)).all()
    assert (order != sample(tiles, 20, seed=1)).any()
    assert len(np.unique(order)) == 60
    assert len(sample(tiles, 1000, seed=0)) == 90  # all but the single tile
    fewer = DatasetTiles(write_dataset(tmp_path / "fewer", {"b": noise(30), "c": noise(30)}))
    assert (sample(fewer, 20, seed=0) == order[20:] - 30).all()


def test_wrong_datasets_and_options(run: Path, dataset: Path, tmp_path: Path) -> None:
    model = load(run)
    one = write_dataset(tmp_path / "one", {"a": noise(5), "single": noise(1)})
    with pytest.raises(UsageError, match="needs 2 slides with at least 2 tiles, not 1"):
        collapse(model, one)
    with pytest.raises(UsageError, match="`k` 90: must be 1 to 89"):
        collapse(model, dataset, k=90)
    with pytest.raises(UsageError, match="`tiles_per_slide` must be at least 2"):
        collapse(model, dataset, tiles_per_slide=1)
    (tmp_path / "labels.csv").write_text("file,label\n1.png,q\n")
    with pytest.raises(UsageError, match="feature collapse is about slides"):
        collapse(model, tmp_path)


@pytest.mark.parametrize("slides", [2, 25])
def test_figure_is_seeded_and_has_every_slide(slides: int) -> None:
    taken = Sample(
        np.random.default_rng(0).normal(size=(slides * 4, 6)).astype(np.float32),
        np.repeat(np.arange(slides), 4),
        [f"s{n}" for n in range(slides)],
    )
    flat, rows = tsne.place(taken, per_slide=2, seed=0)
    again, _ = tsne.place(taken, per_slide=2, seed=0)
    assert (flat == again).all()
    assert (np.bincount(taken.slide[rows]) == 2).all()
    result = {"model": {"name": "m"}, **measure(taken, 2, 0)}
    png = tsne.figure(taken, flat, rows, result)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    assert len(picture.getcolors(1 << 24)) > slides


def test_command_writes_into_the_run_or_to_out(run: Path, dataset: Path, tmp_path: Path) -> None:
    options = [str(dataset), "--tiles-per-slide", "20", "--k", "5", "--tsne-tiles", "10"]
    done = CliRunner().invoke(app, ["collapse", str(run), *options], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "[95 % interval] over slides" in done.stdout
    assert "within a class" not in done.stdout
    saved = json.loads((run / "evaluation" / "collapse.json").read_text())
    assert saved["tsne"] == {"file": "tsne.png", "tiles": 30}
    with Image.open(run / "evaluation" / "tsne.png") as picture:
        assert picture.width > 500
    (tmp_path / "labels.csv").write_text("slide,label\na,x\nb,y\nc,y\n")
    told = ["collapse", str(run), *options, "--labels", str(tmp_path / "labels.csv"), "--json"]
    with_labels = json.loads(CliRunner().invoke(app, told).stdout)
    assert with_labels["own_share"] == saved["own_share"]
    assert with_labels["within"]["classes"] == ["y"]
    assert with_labels["content"]["tiles"] == 60
    export(run, tmp_path / "model")
    printed = CliRunner().invoke(app, ["collapse", str(tmp_path / "model"), *options])
    assert printed.exit_code == 0
    assert "give --out FOLDER" in printed.stderr
    CliRunner().invoke(
        app, ["collapse", str(tmp_path / "model"), *options, "--out", str(tmp_path / "result")]
    )
    other = json.loads((tmp_path / "result" / "collapse.json").read_text())
    assert other["own_share"] == saved["own_share"]
