"""Imported tile sets downstream: labels and groups come from the index, and shards never stand for groups."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.tilesets import folders, write_csv
from helpers.toys import noise, write_dataset, write_run

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.mixed.make import mix
from pathprep.mixed.reader import MixedDataset
from pathprep.params.tile_set import TileParams
from pathprep.tilesets import run as imports
from pathprep.tilesets.find import find
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.tile_labels import read_labels
from pathtrain.data.training_data import of
from pathtrain.data.whole_tiles import DatasetTiles, open_tiles
from pathtrain.evaluate.tile_level.collapse import collapse, measured, sample
from pathtrain.evaluate.tile_level.knn import knn
from pathtrain.features.embed import embed
from pathtrain.params.evaluation import CollapseParams
from pathtrain.recipes.load import load as load_recipe
from pathtrain.runs.opening import load

PINK, BLUE = (220, 120, 180), (90, 90, 200)
PATIENTS = {"a": "p", "b": "b", "c": "p", "d": "b"}


def imported(root: Path, patients: dict[str, str], *, grouped: bool = True, seed: int = 0) -> Path:
    """Patients of six tiles each, pink ones labelled p and blue ones b, in shards of about two patients."""
    files, rows = {}, []
    for number, (patient, label) in enumerate(patients.items()):
        for n, tile in enumerate(noise(6, colour=PINK if label == "p" else BLUE, seed=seed + number)):
            files[f"{patient}{n}.png"] = tile
            rows.append((f"{patient}{n}.png", label, patient if grouped else ""))
    source = folders(root / "set", files)
    write_csv(source / "labels.csv", ("file", "label", "group"), rows)
    done = imports.import_tiles(find(source), root / "out", TileParams(tiles_per_shard=13))
    assert not done.failures
    return root / "out"


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported(tmp_path_factory.mktemp("grouped"), PATIENTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, grouped: Path) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", grouped)


def test_shards_are_not_counted_as_slides(grouped: Path, tmp_path: Path) -> None:
    assert len(Dataset(grouped).slides) == 2
    assert of(Dataset(grouped)).counts(["a"]) == {"slides": None, "groups": 3}
    mix([grouped], tmp_path / "mix")
    assert of(MixedDataset(tmp_path / "mix")).counts(()) == {"slides": None, "groups": None}
    write_dataset(tmp_path / "slides", {"one": noise(3), "two": noise(2, seed=1)})
    assert of(Dataset(tmp_path / "slides")).counts(["two"]) == {"slides": 1, "groups": None}
    mix([tmp_path / "slides"], tmp_path / "other")
    assert of(MixedDataset(tmp_path / "other")).counts(()) == {"slides": 2, "groups": None}


def test_labels_and_groups_of_the_index(grouped: Path) -> None:
    tiles = open_tiles(grouped)
    assert isinstance(tiles, DatasetTiles)
    assert (tiles.kind, tiles.groups, len(tiles.slides)) == ("group", ["a", "b", "c", "d"], 2)
    labels = read_labels([tiles], None)
    assert labels.classes == ["b", "p"]
    for number, source in enumerate(tiles.sources):
        assert tiles.groups[tiles.group[number]] == source[0]
        assert labels.classes[labels.values[0][number]] == PATIENTS[source[0]]
    # a CSV takes their place
    path = write_csv(grouped.parent / "l.csv", ("slide", "label"), [(name, name) for name in tiles.slides])
    assert read_labels([tiles], path).classes == tiles.slides


def test_a_dataset_of_slides_beside_it_still_needs_labels(grouped: Path, tmp_path: Path) -> None:
    slides = write_dataset(tmp_path / "slides", {"s": noise(3)})
    with pytest.raises(UsageError, match="slides: a dataset holds no labels; give `labels`"):
        read_labels([open_tiles(grouped), open_tiles(slides)], None)


def test_knn_leaves_groups_out(run: Path, grouped: Path) -> None:
    result = knn(load(run), grouped, k=5)
    assert (result["protocol"], result["groups"], result["test_tiles"]) == ("leave one group out", 4, 24)
    assert result["results"][2]["accuracy"] == 1.0
    with pytest.raises(UsageError, match="`k` 19: must be 1 to 18"):  # 24 tiles less a patient's 6
        knn(load(run), grouped, k=19)


def test_a_class_of_one_group_is_not_found_without_it(run: Path, tmp_path: Path) -> None:
    out = imported(tmp_path, {"a": "p", "b": "b", "c": "b"})
    colour = knn(load(run), out, k=5)["results"][2]
    assert colour["per_class"]["p"]["recall"] == 0.0
    assert colour["per_class"]["b"]["recall"] == 1.0


def test_train_and_test_must_not_share_a_group(run: Path, grouped: Path, tmp_path: Path) -> None:
    other = imported(tmp_path / "1", {"d": "p", "e": "b"}, seed=20)
    with pytest.raises(UsageError, match=r"shares group d with .* \(1 in all\)"):
        knn(load(run), grouped, other)
    apart = imported(tmp_path / "2", {"e": "p", "f": "b"}, seed=20)
    assert knn(load(run), grouped, apart, k=5)["results"][2]["accuracy"] == 1.0


def test_tiles_without_groups_are_each_their_own(run: Path, tmp_path: Path) -> None:
    one = imported(tmp_path / "1", {"a": "p", "b": "b"}, grouped=False)
    other = imported(tmp_path / "2", {"a": "p", "b": "b"}, grouped=False, seed=30)  # the same file names
    tiles = open_tiles(one)
    assert len(tiles.groups) == 12
    assert knn(load(run), one, k=5)["groups"] == 12
    assert knn(load(run), one, other, k=5)["test_tiles"] == 12
    with pytest.raises(UsageError, match="is both training and test set"):
        knn(load(run), one, one, k=5)
    with pytest.raises(UsageError, match="needs 2 groups with at least 2 tiles, not 0"):
        collapse(load(run), one, k=3)


def test_collapse_is_measured_over_groups(run: Path, grouped: Path) -> None:
    result, taken = measured(load(run), grouped, CollapseParams(tiles_per_slide=4, k=3))
    assert (taken.slides, result["tiles"]) == (["a", "b", "c", "d"], 16)
    assert result["chance"] == pytest.approx(3 / 15)
    tiles = DatasetTiles(grouped)
    order = sample(tiles, 4, seed=0)
    assert (np.diff(order) > 0).all()
    assert np.bincount(tiles.group[order]).tolist() == [4, 4, 4, 4]


def test_features_go_with_files_labels_and_groups(run: Path, grouped: Path, tmp_path: Path) -> None:
    embed(run, grouped, tmp_path)
    found = {}
    for name in Dataset(grouped).slides:
        with h5py.File(tmp_path / f"{name}.h5") as file:
            assert sorted(file) == ["features", "files", "groups", "labels"]
            columns = [file[column].asstr()[:] for column in ("files", "labels", "groups")]
            assert len(file["features"]) == len(columns[0])
            found |= {source: (label, group) for source, label, group in zip(*columns, strict=True)}
    assert found == {
        f"{patient}{n}.png": (label, patient) for patient, label in PATIENTS.items() for n in range(6)
    }


def test_the_loader_trains_on_tiles_of_several_sizes(tmp_path: Path) -> None:
    sizes = {f"x/{n}.png": noise(1, side=side)[0] for n, side in enumerate((32, 48, 64, 96))}
    source = folders(tmp_path / "set", sizes)
    imports.import_tiles(find(source), tmp_path / "out", TileParams())
    small = ["batch=4", "views.globals.size=32", "views.locals.size=16"]
    loader = Loader(of(Dataset(tmp_path / "out")), BatchOptions.of(load_recipe("smoke", small)))
    batch = next(iter(loader))
    assert sorted(batch.tiles.tolist()) == [0, 1, 2, 3]
    assert all(view.shape[0] == 4 for view in batch.views)
