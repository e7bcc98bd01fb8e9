"""Several datasets and resolutions in one run: shares, hold-out, refusals, ranks, kills."""

import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers.toys import TINY, noise, spoil, write_dataset
from helpers.training import SETTINGS, assert_same_to_the_bit, logged, train

from pathprep.errors import UsageError
from pathprep.mixed.make import mix
from pathprep.stain import Target
from pathtrain import methods
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.source import NO_TILES
from pathtrain.data.training_data import opened
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import CheckpointError, TrainError
from pathtrain.recipes.load import load
from pathtrain.recipes.sampling import SamplingConfig
from pathtrain.training.held_out import hold_out
from pathtrain.training.logs import Row, rows
from pathtrain.training.pretrain import pretrain

MPPS = [0.5, 1.0]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A: slides a (12 tiles), b (3); B: slides b (5; another one), c (2); C: a at 1 MPP (4 tiles), d (2)."""
    folder = tmp_path_factory.mktemp("several")
    sizes = {"A": {"a": 12, "b": 3}, "B": {"b": 5, "c": 2}, "C": {"a": 4, "d": 2}}
    found = []
    for seed, (name, slides) in enumerate(sizes.items()):
        tiles = {slide: noise(count, seed=100 * seed + count) for slide, count in slides.items()}
        found.append(write_dataset(folder / name, tiles, mpp=MPPS[name == "C"], stated=stated(name)))
    return found


def stated(name: str) -> dict[str, float]:
    return {"mpp": MPPS[name == "C"]}


def drawn(
    places: list[Path], sampling: dict[str, object], count: int, held_out: list[int] | None = None
) -> Counter[str]:
    """How often each slide comes, by the names of the dataset and the slide."""
    data = opened(places)
    source = data.source(SamplingConfig.model_validate(sampling), np.array(held_out or [], np.int64))
    tiles = source.order(np.arange(count), 0).tolist()
    names = (source.name(tile) for tile in tiles)
    return Counter(f"{name.rpartition(' of ')[2]}/{name.split()[1].rstrip(',')}" for name in names)


def test_one_pool_has_every_tile_once_an_epoch(three: list[Path]) -> None:
    data = opened(three)
    assert len(data) == 28
    source = data.source(SamplingConfig())
    tiles = source.order(np.arange(56), 3)
    assert sorted(tiles[:28].tolist()) == sorted(tiles[28:].tolist()) == list(range(28))
    assert data.groups(SamplingConfig(), NO_TILES) is None
    assert data.account(None, NO_TILES) == ["tiles drawn: 53.6% of A (15), 25.0% of B (7), 21.4% of C (6)"]
    assert drawn(three, {}, 28)["C/a"] == 4
    assert (three[1] / "shards" / "c.tar").exists()
    jpeg = (three[1] / "shards" / "c.tar").read_bytes()
    assert source.read(15 + 5) in jpeg


def test_datasets_then_slides_then_resolutions(three: list[Path]) -> None:
    """litData issue 185: datasets of sizes 1 to 3 came by their sizes, whatever the weights were."""
    by_dataset = drawn(three[:2], {"datasets": {"A": 3}}, 4000)
    assert by_dataset["A/a"] + by_dataset["A/b"] == 3000
    slides = drawn(three[:2], {"by": "slide", "datasets": {"B": 3}}, 4000)
    assert slides == {"A/a": 500, "A/b": 500, "B/b": 1500, "B/c": 1500}
    # without the level of datasets each slide comes equally often; two of one name are two
    assert drawn(three[:2], {"by": "slide"}, 400) == dict.fromkeys(["A/a", "A/b", "B/b", "B/c"], 100)
    # a slide at two resolutions is one, where a resolution is drawn after it
    both = [three[0], three[2]]
    mixed = drawn(both, {"by": "slide", "mpps": {0.5: 3, 1: 1}}, 12_000)
    assert mixed == {"A/a": 3000, "C/a": 1000, "A/b": 4000, "C/d": 4000}
    # and resolutions alone, and within datasets
    assert drawn(both, {"mpps": {0.5: 1, 1: 4}}, 5000)["C/a"] == pytest.approx(4000 * 4 / 6, abs=4)
    weighted = drawn(both, {"datasets": {"A": 1, "C": 1}, "by": "slide", "mpps": {0.5: 9, 1: 1}}, 400)
    assert weighted == dict.fromkeys(["A/a", "A/b", "C/a", "C/d"], 100)


def test_the_ratio_holds_for_any_part_of_a_run(three: list[Path]) -> None:
    """pytorch issue 116117: 20 of 100 draws were right, of the first 25, 50 and 75 they were not."""
    source = opened(three[:2]).source(SamplingConfig(datasets={"A": 1, "B": 4}))
    own = source.order(np.arange(20_000), 5) < 15
    for part in (0.25, 0.5, 0.75, 1):
        assert own[: int(20_000 * part)].mean() == pytest.approx(0.2, abs=1e-9)


def test_slides_of_several_resolutions_of_one_dataset(tmp_path: Path) -> None:
    tiles = {"a_mpp0-5": noise(6), "a_mpp1": noise(2, seed=1), "b_mpp1": noise(3, seed=2)}
    root = write_dataset(tmp_path / "several", tiles, stated={"mpp": [0.5, 1.0]})
    data = opened(root)
    made = data.groups(SamplingConfig(by="slide", mpps={0.5: 1, 1: 1}), NO_TILES)
    assert made is not None
    assert made.labels["slide"].tolist() == ["a", "a", "b"]
    assert made.labels["MPP"].tolist() == ["0.5", "1", "1"]
    assert made.shares.tolist() == [0.25, 0.25, 0.5]
    assert (
        "sampling by slide, then MPP: 2 slides, each 1 tile in 2, 2 MPPs (0.5 25.0%, 1 75.0%" in made.said()
    )
    with pytest.raises(UsageError, match="has tiles at 1 MPP, which it does not name"):
        data.groups(SamplingConfig(mpps={0.5: 1}), NO_TILES)
    with pytest.raises(UsageError, match=r"sampling.mpps: there is no MPP 2; there are 0.5, 1"):
        data.groups(SamplingConfig(mpps={0.5: 1, 1: 1, 2: 1}), NO_TILES)


def test_nothing_of_an_empty_dataset(three: list[Path], tmp_path: Path) -> None:
    """datasets issue 8626: a source without a sample gave a row of the next, or one beyond the end."""
    empty = write_dataset(tmp_path / "empty", {"z": []})
    for places in ([empty, *three[:2]], [*three[:2], empty]):
        tiles = opened(places).source(SamplingConfig()).order(np.arange(22), 42)
        assert sorted(tiles.tolist()) == list(range(22))
        weighted = drawn(places, {"datasets": {"A": 1, "B": 1}}, 200)
        assert sum(count for name, count in weighted.items() if name.startswith("A/")) == 100


def test_held_out_slides_are_in_no_dataset(three: list[Path]) -> None:
    """As in Soup issue 680: what is oversampled must not bring held out tiles back."""
    data = opened(three)
    tiles = data.tiles_of(["a", "c"])
    assert tiles.tolist() == [*range(12), 20, 21, *range(22, 26)]
    assert drawn(three, {}, 60, tiles.tolist()).keys() == {"A/b", "B/b", "C/d"}
    left = drawn(three, {"by": "slide", "datasets": {"C": 5}}, 60, tiles.tolist())
    assert left.keys() == {"A/b", "B/b", "C/d"}
    recipe = load("smoke", [*TINY, "probes=[{kind: collapse, every: 1, slides: 2, tiles: 3}]"])
    with pytest.raises(UsageError, match="training would lose them"):
        hold_out(opened(three), recipe)
    assert data.counts(["a"]) == {"slides": 4, "groups": None}
    found = opened([three[1], three[0], three[2]])
    assert found.measured is not None
    assert found.measured.root == three[1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["A", "A"], "slide a has the same tiles in .*A and in .*A: name each dataset once"),
        (["A", "copy"], "slide a has the same tiles in .*A and in .*copy"),
        (["A", "large"], "tile size: .*A has 32 px, .*large has 64 px; datasets of one run agree in it"),
        (["A", "baked"], "stain: .*A has plain tiles, .*baked has tiles normalised to .*; datasets"),
        (["A", "mixed"], "mixed: mixed shards are trained on alone.*name the datasets"),
        ([], "give a dataset, or mixed shards, to train on"),
    ],
)
def test_what_does_not_go_together(names: list[str], message: str, three: list[Path], tmp_path: Path) -> None:
    slides = {"z": noise(3, seed=9)}
    target = {"mode": "bake", "target": Target.default().as_params()}
    places = {
        "A": three[0],
        "copy": write_dataset(tmp_path / "copy", {"a": noise(12, seed=12)}),
        "large": write_dataset(tmp_path / "large", slides, stated={"tile": 64}),
        "baked": write_dataset(tmp_path / "baked", slides, stated={"stain": target}),
        "mixed": tmp_path / "mixed",
    }
    mix([three[1]], tmp_path / "mixed")
    with pytest.raises(UsageError, match=message):
        opened([places[name] for name in names])


def test_the_hierarchical_method_takes_one(three: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"A, .*B: 2 datasets; the method hierarchical trains on one"):
        methods.setup(load("exaonepath2-tiny"), opened(three[:2]))


def test_names_tell_datasets_apart(tmp_path: Path) -> None:
    for seed, site in enumerate("ab"):
        write_dataset(tmp_path / site / "dataset", {"s": noise(3, seed=seed)})
    places = [tmp_path / site / "dataset" for site in "ab"]
    assert drawn(places, {"datasets": {"a/dataset": 3}}, 1000) == {"a/dataset/s": 750, "b/dataset/s": 250}
    with pytest.raises(UsageError, match="there is no dataset dataset; there are a/dataset, b/dataset"):
        drawn(places, {"datasets": {"dataset": 2}}, 1)


def test_a_damaged_tile_is_named_with_its_dataset(three: list[Path], tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "D", {"e": noise(2, seed=50)})
    spoil(root, "e", 1, b"x" * 50)
    with closing(Loader(opened([three[1], root]), options())) as loader:
        batches = list(islice(loader, 3))
        assert [found.name for found in loader.damaged] == ["slide e, tile 32_0 of D"]
        with pytest.raises(Exception, match=r"D: slide e, tile 32_0 of D is damaged.*pathprep verify.*D"):
            loader.read(8)
    assert 8 not in np.concatenate([batch.tiles for batch in batches])
    with (
        pytest.raises(TrainError, match=r"B, .*D: 1 tile is damaged.*pathprep verify .*D"),
        closing(Loader(opened([three[1], root]), options("loader.max_damaged=0"))) as loader,
    ):
        list(islice(loader, 3))


WEIGHTED = "sampling={by: slide, datasets: {A: 2, B: 1, C: 1}, mpps: {0.5: 1, 1: 2}}"


def options(*more: str) -> BatchOptions:
    return BatchOptions.of(load("smoke", [*TINY, "batch=6", *more]))


@pytest.mark.parametrize("sampling", ["sampling.by=tile", WEIGHTED])
def test_ranks_divide_the_order_of_one(three: list[Path], sampling: str) -> None:
    """datasets issue 7868: with several sources, ranks saw the same samples."""
    with closing(Loader(opened(three), options(sampling))) as loader:
        whole = list(islice(loader, 4))
    for world in (2, 3):
        for rank in range(world):
            with closing(Loader(opened(three), options(sampling), 2, Ranks(rank, world))) as loader:
                batch = next(iter(loader))
            assert np.array_equal(batch.tiles, whole[2].tiles[rank::world])
            assert np.array_equal(batch.views[1].numpy(), whole[2].views[1].numpy()[rank::world])


def test_a_run_goes_on_to_the_bit_and_with_the_same_datasets_only(three: list[Path], tmp_path: Path) -> None:
    recipe = load("smoke", [*SETTINGS, "steps=12", WEIGHTED])
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    pretrain(three, recipe, straight)

    class Killed(Exception):
        pass

    def watch(done: int, total: int, row: Row | None) -> None:
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        pretrain(three, recipe, killed, watch=watch)
    assert pretrain(three, recipe, killed).resumed_from == 5
    assert_same_to_the_bit(killed, straight)
    assert logged(killed) == logged(straight)
    for others in (three[:2], three[::-1]):
        with pytest.raises((CheckpointError, UsageError), match="dataset build id was|there is no"):
            pretrain(others, recipe, killed)
    with pytest.raises(CheckpointError, match=r"sampling.datasets.A was 2.0, is 3.0"):
        pretrain(three, load("smoke", [*SETTINGS, "steps=12", WEIGHTED.replace("A: 2", "A: 3")]), killed)


@pytest.mark.slow
def test_killed_at_a_random_moment_and_resumed_is_the_same_to_the_bit(
    three: list[Path], tmp_path: Path
) -> None:
    settings = [part for setting in (*SETTINGS, WEIGHTED) for part in ("--set", setting)]
    command = [sys.executable, "-m", "pathtrain", "pretrain", *map(str, three), *settings, "--out"]
    run, straight = tmp_path / "killed", tmp_path / "straight"
    process = subprocess.Popen([*command, str(run)], stdout=subprocess.DEVNULL)
    while process.poll() is None and len(rows(run)) < 4:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for each in (run, straight):
        subprocess.run([*command, str(each)], check=True, capture_output=True)
    assert_same_to_the_bit(run, straight)


def test_a_run_says_its_shares(three: list[Path], tmp_path: Path) -> None:
    _, text = train(three, tmp_path / "run", "steps=1", WEIGHTED)  # type: ignore[arg-type]
    assert "by dataset, then slide, then MPP: 3 datasets (A 50.0%, B 25.0%, C 25.0% of tiles)" in text
    assert "tiles drawn: 50.0% of A (15), 25.0% of B (7), 25.0% of C (6)" in text
