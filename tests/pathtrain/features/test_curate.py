"""Clusters of features: against scikit-learn, planted ones, streams; their table, and what draws by it."""

import csv
import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.toys import TINY, labelled_folder, noise, write_dataset, write_run
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import pathtrain
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.params.tile_set import TileParams
from pathprep.tilesets import run as imports
from pathprep.tilesets.find import find
from pathtrain.data import cluster_table
from pathtrain.data.source import NO_TILES
from pathtrain.data.training_data import opened
from pathtrain.errors import CheckpointError
from pathtrain.features import hierarchical_kmeans as kmeans
from pathtrain.features.curate import MADE_FROM, curate, effective
from pathtrain.features.files import write_hdf5
from pathtrain.features.part import Part
from pathtrain.recipes.load import load
from pathtrain.recipes.sampling import SamplingConfig
from pathtrain.training.pretrain import pretrain

COLOURS = {"pink": (220, 120, 180), "blue": (90, 90, 200), "grey": (120, 120, 120)}
COUNTS = {"pink": 60, "blue": 12, "grey": 6}


def planted(counts: list[int], dim: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around far corners, so many of each, and which."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(counts)), counts)
    corners = 10 * np.eye(dim)[: len(counts)]
    return (corners[owner] + rng.normal(0, 0.3, (len(owner), dim))).astype(np.float32), owner


def test_one_level_without_resampling_is_scikit_learns() -> None:
    points, _ = planted([50, 40, 30, 20])
    found = kmeans.fit(points, [7], resample=0, seed=3, watch=lambda _: None)
    other = KMeans(7, n_init=1, max_iter=50, random_state=3).fit(points)
    np.testing.assert_allclose(found.centroids, other.cluster_centers_, rtol=1e-6)
    assert np.array_equal(found.assign(points)[:, 0], other.predict(points))


def test_planted_clusters_of_any_sizes_are_found_and_drawn_alike() -> None:
    points, owner = planted([4000, 400, 40, 20])
    for resample in (0, 10):
        found = kmeans.fit(points, [40, 4], resample, seed=0, watch=lambda _: None)
        levels = found.assign(points)
        if resample:  # plain hierarchical k-means may divide the largest, and join the smallest two
            assert adjusted_rand_score(owner, levels[:, 1]) == 1
        # a cluster is in one of the next level
        assert len(np.unique(levels, axis=0)) == len(np.unique(levels[:, 0]))
    assert np.array_equal(kmeans.fit(points, [40, 4], 10, 0, lambda _: None).assign(points), levels)


def test_resampling_spreads_centroids_over_what_there_is() -> None:
    """One dimension, as figure 3 of the paper: dense left, sparse right."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.2, 5000), rng.uniform(-3, 3, 500)]).astype(np.float32)[:, None]
    inside = [
        (np.abs(kmeans.fit(points, [30], resample, 0, lambda _: None).centroids) < 0.6).mean()
        for resample in (0, 10)
    ]
    assert inside[1] < 0.8 * inside[0]


def test_points_that_are_alike(capsys: pytest.CaptureFixture[str]) -> None:
    points = np.zeros((30, 3), np.float32)
    points[20:] = 1
    found = kmeans.fit(points, [10, 4], 3, 0, lambda _: None).assign(points)
    assert len(np.unique(found[:20], axis=0)) == len(np.unique(found[20:], axis=0)) == 1
    assert (found[0] != found[20]).any()


def test_effective() -> None:
    assert effective(np.array([5, 5, 5, 5])) == pytest.approx(4)
    assert effective(np.array([7, 0, 0])) == pytest.approx(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three colours, most of them pink, and its features."""
    folder = tmp_path_factory.mktemp("curate")
    slides = {
        name: noise(COUNTS[name], colour=colour, seed=number)
        for number, (name, colour) in enumerate(COLOURS.items())
    }
    dataset = write_dataset(folder / "dataset", slides)
    run = write_run(folder / "run", dataset)
    embedded(run, dataset, folder / "features")
    return folder


def embedded(run: Path, dataset: Path, out: Path) -> None:
    """Files of features as embed writes them, but with features that tell the slides apart."""
    pathtrain.embed(run, dataset, out, threads=1)
    for path in out.glob("*.h5"):
        with h5py.File(path) as file:
            made = {key: file.attrs[key] for key in MADE_FROM}
            coords = file["coords"][:]
        count, corner = len(coords), list(COLOURS).index(made["slide"])
        points = planted([count])[0][:, np.roll(np.arange(8), corner)]
        write_hdf5(path, Part("", "", range(count), made, partial(dict, coords=coords), {}), points)


def test_a_table_of_tiles(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.parquet"
    found = curate(made / "features", out, clusters=[9, 3])
    assert (found.tiles, found.slides, found.fitted) == (78, 3, 78)
    coarse = found.levels[1]
    assert (coarse.clusters, coarse.smallest, coarse.largest) == (3, 6, 60)
    assert coarse.effective_before == pytest.approx(effective(np.array([60, 12, 6])))
    assert coarse.effective_after == pytest.approx(3)
    table = pq.read_table(out)
    assert table.column_names == ["slide_id", "x", "y", "cluster_1", "cluster_2", "weight"]
    rows = table.to_pylist()
    index = Dataset(made / "dataset").tiles(["x", "y"])
    names = [index.slides[int(index.slide_of(tile))] for tile in range(78)]
    assert [row["slide_id"] for row in rows] == names
    assert [row["x"] for row in rows] == index.columns["x"].tolist()
    weights = table["weight"].to_numpy()
    assert weights.mean() == pytest.approx(1)
    by_slide = {name: weights[np.array(names) == name].sum() / 78 for name in COUNTS}
    assert by_slide == pytest.approx(dict.fromkeys(COUNTS, 1 / 3))
    about = json.loads(table.schema.metadata[cluster_table.METADATA])
    assert about["made"] | {"fingerprint": ""} == {
        "fingerprint": "", "clusters": [9, 3], "resample": 10, "seed": 0, "fitted": 78,
    }  # fmt: skip
    again = curate(made / "features", tmp_path / "again.parquet", clusters=[9, 3])
    assert (tmp_path / "again.parquet").read_bytes() == out.read_bytes()
    assert again.levels == found.levels
    # fitted on what fits into memory, all of them assigned
    dim = 4 * 8
    few = curate(made / "features", tmp_path / "few.parquet", clusters=[9, 3], memory=(dim * 60 + 1) / 1e9)
    assert (few.fitted, few.tiles) == (60, 78)


def test_training_draws_by_it(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.parquet"
    curate(made / "features", out, clusters=[9, 3])
    data = opened(made / "dataset")
    config = SamplingConfig(by="cluster", table=out)
    groups = data.groups(config, NO_TILES)
    assert groups is not None
    assert list(groups.labels) == ["cluster_2", "cluster_1"]
    source = data.source(config)
    drawn = Counter(source.name(tile).split()[1] for tile in source.order(np.arange(300), 0).tolist())
    assert drawn == dict.fromkeys(["pink,", "blue,", "grey,"], 100)
    # the weights of the table are how often a tile comes
    expected = np.bincount(source.order(np.arange(groups.cycle * 10_000), 0), minlength=78)
    weights = pq.read_table(out)["weight"].to_numpy()
    np.testing.assert_allclose(expected / expected.sum() * 78, weights, rtol=0.05)
    # what is held out is in no cluster
    held_out = data.tiles_of(["grey"])
    kept = data.source(config, held_out).order(np.arange(300), 0)
    assert not np.isin(kept, held_out).any()
    recipe = load("smoke", [*TINY, "steps=1", "batch=4", f"sampling={{by: cluster, table: {out}}}"])
    pretrain(made / "dataset", recipe, tmp_path / "run")
    curate(made / "features", out, clusters=[8, 3])
    longer = recipe.model_copy(update={"steps": 2})
    with pytest.raises(CheckpointError, match="sampling groups was"):
        pretrain(made / "dataset", longer, tmp_path / "run")


def test_several_datasets_have_one_table(made: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", {"blue": noise(20, colour=COLOURS["blue"], seed=7)})
    embedded(made / "run", other, tmp_path / "features")
    found = curate([made / "features", tmp_path / "features"], tmp_path / "w.parquet", clusters=[9, 3])
    assert found.levels[1].largest == 60
    data = opened([made / "dataset", other])
    source = data.source(SamplingConfig(by="cluster", table=tmp_path / "w.parquet"))
    drawn = Counter(source.name(tile).split()[1] for tile in source.order(np.arange(300), 0).tolist())
    assert drawn["blue,"] == 100  # of both


def test_imported_tiles_and_their_labels(tmp_path: Path) -> None:
    source = labelled_folder(tmp_path / "set", {**{f"p{n}": "p" for n in range(9)}, "b": "b"})
    assert not imports.import_tiles(find(source), tmp_path / "out", TileParams(tiles_per_shard=15)).failures
    run = write_run(tmp_path / "run", tmp_path / "out")
    pathtrain.embed(run, tmp_path / "out", tmp_path / "features", threads=1)
    curate(tmp_path / "features", tmp_path / "w.parquet", clusters=[6, 2])
    data = opened(tmp_path / "out")
    tiles = data.source(SamplingConfig(by="cluster", table=tmp_path / "w.parquet")).order(np.arange(600), 0)
    labels = np.array(Dataset(tmp_path / "out").texts("label"))
    assert (labels == "b").mean() == 0.1
    assert (labels[tiles] == "b").mean() == 0.5


def test_tables_of_other_tiles_are_refused(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.parquet"
    curate(made / "features", out, clusters=[9, 3])
    config = SamplingConfig(by="cluster", table=out)
    more = write_dataset(tmp_path / "more", {"pink": noise(60), "green": noise(3, seed=4)})
    with pytest.raises(
        UsageError, match="it holds other tiles of 1 slide of .*more .pink, green.; run `pathtrain embed`"
    ):
        opened(more).groups(config, NO_TILES)
    new = write_dataset(tmp_path / "new", {"green": noise(3, seed=4)})
    with pytest.raises(UsageError, match="it lacks 1 slide of .*new .green.; run `pathtrain embed` on all"):
        opened(new).groups(config, NO_TILES)
    data = opened(made / "dataset")
    for wrong in ({"by": "slide_type"}, {"by": "cluster", "weights": {"1": 2.0}}):
        with pytest.raises(UsageError, match="holds clusters, which `by: cluster` draws alike"):
            data.groups(SamplingConfig(table=out, **wrong), NO_TILES)  # type: ignore[arg-type]
    whole = out.read_bytes()
    place = len(whole) // 3
    out.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UsageError, match="w.parquet: cannot be read .*damaged"):
        data.groups(config, NO_TILES)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([9, 9], "`clusters` 9,9: give the clusters of each level, the finest first"),
        ([3, 9], "each fewer than the one before"),
        ([100], "fewer than 78"),
        ([1], "2 at least"),
        ([], "give the clusters of each level"),
    ],
)
def test_wrong_numbers_of_clusters(made: Path, tmp_path: Path, clusters: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        curate(made / "features", tmp_path / "w.parquet", clusters=clusters)
    assert not (tmp_path / "w.parquet").exists()


def test_features_of_no_dataset_or_of_two_models(made: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "slide.h5", "w") as file:
        file["features"] = np.zeros((9, 4), np.float32)
        file["coords"] = np.zeros((9, 2), np.int64)
    with pytest.raises(UsageError, match="slide.h5: does not say which tiles of which dataset it is of"):
        curate(tmp_path, tmp_path / "w.parquet")
    with pytest.raises(UsageError, match="no .h5 file there"):
        curate(tmp_path / "none", tmp_path / "w.parquet")
    other = write_run(tmp_path / "run", made / "dataset", seed=1)
    pathtrain.embed(other, made / "dataset", tmp_path / "features", threads=1)
    with pytest.raises(UsageError, match="are of two models"):
        curate([made / "features", tmp_path / "features"], tmp_path / "w.parquet")
    with pytest.raises(UsageError, match="come twice"):
        curate([made / "features", made / "features"], tmp_path / "w.parquet")


@pytest.mark.slow
def test_real_tiles_of_uneven_classes_come_more_evenly(data: Path, tmp_path: Path) -> None:
    """LC25000 with a long tail, features that tell its classes apart (mean and SD of colour): the classes,
    which clusters do not see, are drawn more evenly. Features of an untrained network do not do it."""
    wanted = {"lung_n": 240, "lung_aca": 80, "colon_n": 40, "lung_scc": 20, "colon_aca": 10}
    source, left, rows = tmp_path / "set", dict(wanted), ["file,label"]
    source.mkdir()
    with (data / "tiles" / "train" / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            if left[row["label"]]:
                left[row["label"]] -= 1
                name = row["file"].replace("/", "-")
                shutil.copy(data / "tiles" / "train" / row["file"], source / name)
                rows.append(f"{name},{row['label']}")
    (source / "labels.csv").write_text("\n".join(rows))
    assert not imports.import_tiles(find(source), tmp_path / "out", TileParams()).failures
    run = write_run(tmp_path / "run", tmp_path / "out")
    pathtrain.embed(run, tmp_path / "out", tmp_path / "features", threads=2)
    tiles = [tile.pixels / 255 for tile in Dataset(tmp_path / "out")]
    colours = np.array([[*tile.mean((0, 1)), *tile.std((0, 1))] for tile in tiles])
    (path,) = (tmp_path / "features").glob("*.h5")
    with h5py.File(path) as file:
        made = {key: file.attrs[key] for key in MADE_FROM}
    scaled = ((colours - colours.mean(0)) / colours.std(0)).astype(np.float32)
    write_hdf5(path, Part("", "", range(len(tiles)), made, dict, {}), scaled)
    curate(tmp_path / "features", tmp_path / "w.parquet", clusters=[40, 8])
    labels = np.array(Dataset(tmp_path / "out").texts("label"))
    weights = pq.read_table(tmp_path / "w.parquet")["weight"].to_numpy()
    before = np.array([wanted[name] for name in wanted])
    after = np.array([weights[labels == name].sum() for name in wanted])
    assert effective(before) == pytest.approx(3.0, abs=0.1)
    assert effective(after) > effective(before) + 0.2
