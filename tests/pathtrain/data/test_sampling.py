"""Tiles by slide or by a column: shares, turns of a group's own tiles, any place first, any ranks."""

from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers.toys import TINY, labelled_folder, noise, spoil, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pathprep.dataset.reader import Dataset
from pathprep.errors import PathprepError, UsageError
from pathprep.mixed.make import mix
from pathprep.mixed.reader import MixedDataset
from pathprep.params.tile_set import TileParams
from pathprep.tilesets import run as imports
from pathprep.tilesets.find import find
from pathtrain.data import order
from pathtrain.data.groups import Grouped, Level
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.sampling import grouped
from pathtrain.data.source import NO_TILES
from pathtrain.data.training_data import of
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import CheckpointError
from pathtrain.recipes.load import load
from pathtrain.recipes.sampling import SamplingConfig
from pathtrain.training.pretrain import pretrain

SIZES = {"a": 12, "b": 3, "c": 7, "d": 1}


def in_a_row(sizes: list[int], draws: list[int]) -> Grouped:
    """Groups whose tiles lie one group after the other."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    names = {"slide": np.array([str(number) for number in range(len(sizes))])}
    level = Level(np.array([0, len(sizes)]), np.array(draws))
    return Grouped(names, (level,), starts, starts[:-1], starts[:-1])


def turns(tiles: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> None:
    """Within each group, each tile comes once before one comes again."""
    groups = np.searchsorted(starts, tiles, side="right") - 1
    for group in range(len(starts) - 1):
        own, size = tiles[groups == group], starts[group + 1] - starts[group]
        for at in range(0, len(own) - size + 1, size):
            assert len(set(own[at : at + size].tolist())) == size


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=8),
    st.booleans(),
    st.integers(0, 2**63 - 1),
    st.integers(0, 500),
)
def test_shares_are_exact_in_every_cycle_and_tiles_take_turns(
    groups: list[tuple[int, int]], alike: bool, seed: int, first: int
) -> None:
    sizes, draws = [size for size, _ in groups], [1 if alike else drawn for _, drawn in groups]
    made = in_a_row(sizes, draws)
    cycle = sum(draws)
    assert made.cycle == cycle
    everything = np.arange(made.reach + cycle)
    tiles = made.order(everything, seed)
    numbers = np.searchsorted(made.starts, tiles, side="right") - 1
    for at in range(0, len(tiles) - cycle + 1, cycle):
        assert np.bincount(numbers[at : at + cycle], minlength=len(draws)).tolist() == draws
    turns(tiles, made.starts)
    start = first % cycle
    assert set(tiles[start : start + made.reach].tolist()) == set(range(sum(sizes)))
    # any places, in any order, from a new object: nothing is remembered
    some = np.random.default_rng(seed % 2**32).permutation(everything)[:50]
    assert np.array_equal(in_a_row(sizes, draws).order(some, seed), tiles[some])


def test_groups_and_their_tiles_come_in_other_orders_each_time() -> None:
    made = in_a_row([50] * 50, [1] * 50)
    tiles = made.order(np.arange(50 * 100), seed=1).reshape(100, 50)
    groups = tiles // 50
    assert abs(np.corrcoef(groups[0], groups[1])[0, 1]) < 0.5
    own = [row[row // 50 == 3][0] for row in tiles]
    assert sorted(own[:50]) == sorted(own[50:]) != own[50:] != own[:50]
    assert np.mean(made.order(np.arange(5000), seed=2) == tiles.ravel()) < 0.01
    # two groups of one size do not go in step
    other = [row[row // 50 == 4][0] for row in tiles]
    assert [tile - 150 for tile in own] != [tile - 200 for tile in other]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slides = {name: noise(count, seed=count) for name, count in SIZES.items()}
    return write_dataset(tmp_path_factory.mktemp("sampling") / "dataset", slides)


def shares(made: Grouped, count: int) -> dict[str, float]:
    """How often each group comes in so many positions."""
    numbers = np.searchsorted(made.firsts, made.order(np.arange(count), 0), side="right") - 1
    return {made.names[n]: total / count for n, total in Counter(numbers.tolist()).items()}


def test_every_slide_comes_equally_often_without_what_is_held_out(dataset: Path) -> None:
    data, by_slide = Dataset(dataset), SamplingConfig(by="slide")
    made = grouped({"": data}, by_slide, NO_TILES)
    assert made is not None
    assert made.sizes.tolist() == list(SIZES.values())
    assert shares(made, 400) == dict.fromkeys(SIZES, 0.25)
    assert made.said() == (
        "sampling by slide: 4 slides, each 1 tile in 4; a tile of d (1 tiles) comes 12 times as often as one "
        "of a (12)"
    )
    held_out = np.array([0, 5, *range(12, 15), 21])  # two of a, all of b, one of c
    kept = grouped({"": data}, by_slide, held_out)
    assert kept is not None
    assert (kept.names, kept.sizes.tolist()) == (["a", "c", "d"], [10, 6, 1])
    options = BatchOptions.of(load("smoke", [*TINY, "batch=6", "sampling.by=slide"]))
    with closing(Loader(of(data), options, held_out=held_out)) as loader:
        seen = np.concatenate([loader.tiles(step) for step in range(30)])
    assert set(seen.tolist()) == set(range(23)) - set(held_out.tolist())
    assert kept.digest() != made.digest()


def test_weights_are_kept_to_a_draw(dataset: Path) -> None:
    made = grouped({"": Dataset(dataset)}, SamplingConfig(by="slide", weights={"a": 5, "d": 0.001}), NO_TILES)
    assert made is not None
    total = 5 + 1 + 1 + 0.001
    for name, weight in {"a": 5, "b": 1, "c": 1, "d": 0.001}.items():
        found = shares(made, made.cycle)[name]
        assert found == pytest.approx(weight / total, abs=1 / made.cycle)
        assert found > 0
    turns(made.order(np.arange(3 * made.cycle), 7), made.starts)


def test_a_loader_begins_anywhere_on_any_number_of_ranks(dataset: Path) -> None:
    options = BatchOptions.of(load("smoke", [*TINY, "batch=6", "sampling={by: slide, weights: {b: 2}}"]))
    with closing(Loader(of(Dataset(dataset)), options)) as loader:
        whole = list(islice(loader, 5))
    for world in (2, 3):
        for rank in range(world):
            ranks = Ranks(rank, world)
            with closing(Loader(of(Dataset(dataset)), options, start=3, ranks=ranks)) as loader:
                batch = next(iter(loader))
            assert np.array_equal(batch.tiles, whole[3].tiles[rank::world])
            assert np.array_equal(batch.views[0].numpy(), whole[3].views[0].numpy()[rank::world])


def test_a_damaged_tile_is_replaced_by_the_next_that_is_drawn(dataset: Path, tmp_path: Path) -> None:
    slides = {name: noise(count, seed=count) for name, count in SIZES.items()}
    root = write_dataset(tmp_path / "dataset", slides)
    spoil(root, "d", 0, b"x" * 50)  # the only tile of its slide
    options = BatchOptions.of(load("smoke", [*TINY, "batch=6", "sampling.by=slide"]))
    with closing(Loader(of(Dataset(root)), options)) as loader:
        seen = [batch.tiles for batch in islice(loader, 4)]
        plan = loader.source.order(order.positions(0, 24), options.seed)
    tiles = np.concatenate(seen)
    assert 22 not in tiles
    same = plan[plan != 22] == tiles[plan != 22]
    assert same.all()


@pytest.fixture(scope="module")
def tile_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six groups of four tiles: five of them pink."""
    folder = tmp_path_factory.mktemp("tile_set")
    source = labelled_folder(folder / "set", {**{f"p{n}": "p" for n in range(5)}, "b": "b"})
    assert not imports.import_tiles(find(source), folder / "out", TileParams(tiles_per_shard=7)).failures
    return folder / "out"


def test_by_a_column_of_the_index(tile_set: Path) -> None:
    data = Dataset(tile_set)
    labels = np.array(data.texts("label"))
    made = grouped({"": data}, SamplingConfig(by="label"), NO_TILES)
    assert made is not None
    drawn = labels[made.order(np.arange(200), 0)]
    assert (made.names, np.mean(drawn == "p")) == (["b", "p"], 0.5)
    assert set(made.order(np.arange(made.reach), 0).tolist()) == set(range(24))
    held_out = np.flatnonzero(np.array(data.texts("group")) == "p2")
    kept = grouped({"": data}, SamplingConfig(by="group", weights={"b": 3}), held_out)
    assert kept is not None
    assert (len(kept.names), int(kept.sizes.sum())) == (5, 20)
    numbers = grouped({"": data}, SamplingConfig(by="stored"), NO_TILES)
    assert numbers is not None
    assert numbers.names == ["32"]


def test_by_a_table_of_slides(dataset: Path, tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text("slide_id,site\na,one\nb,two\nc,one\nd,two\n")
    config = SamplingConfig(by="site", table=table, weights={"two": 3})
    made = grouped({"": Dataset(dataset)}, config, NO_TILES)
    assert made is not None
    tiles = made.order(np.arange(made.cycle), 0)
    second = (tiles >= 12) & (tiles < 15) | (tiles >= 22)
    assert (made.names, made.sizes.tolist(), second.mean()) == (["one", "two"], [19, 4], 0.75)
    table.write_text("slide_id,site\na,one\nb,two\nc,one\nd,\n")
    with pytest.raises(UsageError, match=r"1 slide has no site \(d\) and would never be drawn"):
        grouped({"": Dataset(dataset)}, config, NO_TILES)
    without_d = grouped({"": Dataset(dataset)}, config, np.array([22]))  # held out, so it needs none
    assert without_d is not None
    assert (without_d.names, without_d.sizes.tolist()) == (["one", "two"], [19, 3])
    with pytest.raises(UsageError, match="slides.csv has no column organ; there are slide_id, site"):
        grouped({"": Dataset(dataset)}, SamplingConfig(by="organ", table=table), NO_TILES)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"by": "colour"},
            "sampling.by: there is no column colour; there are x, y, .* tile, slide, or sampling.table",
        ),
        ({"by": "cluster"}, "sampling.by: cluster needs sampling.table, a table of `pathtrain curate`"),
        ({"by": "site", "table": "no.csv"}, "sampling.table no.csv: no such file"),
        ({"by": "cluster", "table": "no.parquet"}, "sampling.table no.parquet: no such file"),
        ({"by": "label"}, "23 of 23 tiles in .* have no label and would never be drawn"),
        ({"by": "he"}, "he holds several numbers a tile"),
        ({"by": "slide", "weights": {"z": 2}}, "sampling.weights: there is no slide z; there are a, b, c, d"),
    ],
)
def test_what_cannot_be_drawn_by(dataset: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(PathprepError, match=message):
        grouped({"": Dataset(dataset)}, SamplingConfig.model_validate(config), NO_TILES)


def test_shards_are_no_slides(tile_set: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="imported tiles have no slides; sampling.by=group"):
        grouped({"": Dataset(tile_set)}, SamplingConfig(by="slide"), NO_TILES)
    mix([dataset], tmp_path / "mix")
    with pytest.raises(UsageError, match="sampling.by=slide needs the dataset that they were made of"):
        of(MixedDataset(tmp_path / "mix")).groups(SamplingConfig(by="slide"), NO_TILES)


def test_a_run_keeps_its_groups(dataset: Path, tmp_path: Path) -> None:
    table, run = tmp_path / "slides.csv", tmp_path / "run"
    table.write_text("slide_id,site\na,one\nb,two\nc,one\nd,two\n")

    def train(path: Path) -> int:
        sampling = f"sampling={{by: site, table: {path}}}"
        recipe = load("smoke", [*TINY, "steps=2", "batch=4", sampling, "checkpoint.every=1"])
        return pretrain(dataset, recipe, run).resumed_from

    assert train(table) == 0
    moved = table.rename(tmp_path / "moved.csv")
    assert train(moved) == 2
    moved.write_text("slide_id,site\na,one\nb,one\nc,one\nd,two\n")
    with pytest.raises(CheckpointError, match="sampling groups was .*, is "):
        train(moved)
