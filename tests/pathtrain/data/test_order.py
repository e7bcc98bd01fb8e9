"""The sample order is a permutation per epoch, keyed by the seed, and cut any way gives the same tiles."""

import numpy as np
import pytest

from pathtrain.data import order


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 15, 16, 17, 63, 64, 65, 255, 257, 1000, 4097, 65537])
def test_every_epoch_shows_every_tile_once(count: int) -> None:
    for epoch in (0, 1, 12345):
        tiles = order.permuted(np.arange(count) + epoch * count, count, seed=3)
        assert np.array_equal(np.sort(tiles), np.arange(count))


def test_seeds_and_epochs_give_different_orders() -> None:
    n = 1000
    first = order.permuted(np.arange(2 * n), n, seed=0)
    other = order.permuted(np.arange(n), n, seed=1)
    # two random permutations agree in one place on average
    assert np.sum(first[:n] == first[n:]) < 10
    assert np.sum(first[:n] == other) < 10
    assert np.sum(first[:n] == np.arange(n)) < 10


def test_all_orders_of_four_tiles_are_about_equally_likely() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(2400):
        key = tuple(order.permuted(np.arange(4), 4, seed).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 24
    # 100 expected, standard deviation 9.8: 5 of them
    assert min(counts.values()) > 51
    assert max(counts.values()) < 149


def test_neighbours_in_the_order_are_not_neighbours_in_the_dataset() -> None:
    tiles = order.permuted(np.arange(10_000), 10_000, seed=0)
    correlation = np.corrcoef(tiles[:-1], tiles[1:])[0, 1]
    assert abs(correlation) < 0.05  # 5 standard deviations


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_a_step_without_changing_it(world: int) -> None:
    whole = order.positions(step=5, batch=10)
    parts = [order.positions(5, 10, rank, world) for rank in range(world)]
    assert np.array_equal(np.sort(np.concatenate(parts)), whole)
    tiles = order.permuted(whole, 37, seed=0)
    for rank, part in enumerate(parts):
        assert np.array_equal(order.permuted(part, 37, seed=0), tiles[rank::world])


def test_a_batch_may_straddle_epochs() -> None:
    n, batch = 10, 4
    seen = np.concatenate([order.permuted(order.positions(step, batch), n, seed=0) for step in range(10)])
    for epoch in range(4):
        assert np.array_equal(np.sort(seen[epoch * n : (epoch + 1) * n]), np.arange(n))


def test_one_position_costs_the_same_whatever_the_dataset() -> None:
    """A permutation of 10^15 tiles could not be stored."""
    n = 10**15
    tiles = order.permuted([0, n - 1, n, 7 * n + 5], n, seed=0)
    assert ((tiles >= 0) & (tiles < n)).all()
    assert len(set(tiles.tolist())) == 4


def test_each_position_may_have_a_count_and_a_seed_of_its_own() -> None:
    rng = np.random.default_rng(0)
    places, counts = rng.integers(0, 10**6, 200), rng.integers(1, 3000, 200)
    seeds = rng.integers(0, 2**63, 200)
    one_by_one = [
        int(order.permuted(place, int(count), int(seed))[0])
        for place, count, seed in zip(places, counts, seeds, strict=True)
    ]
    assert order.permuted(places, counts, seeds).tolist() == one_by_one
    assert order.permuted([0, 1, 5, 10**15], 10**15, 7).tolist() == [
        # of the first version: orders of runs and of mixed shards never change
        958241574894212,
        928241724244638,
        364936269376821,
        432965247859815,
    ]


def test_hash_depends_on_every_word_and_their_order() -> None:
    values = [order.hashed(*words)[0] for words in ((1, 2), (2, 1), (1, 3), (0, 2), (1, 2, 0), (1,))]
    assert len({int(value) for value in values}) == len(values)
    bits = np.unpackbits(order.hashed(0, np.arange(20_000)).view(np.uint8).reshape(-1, 8), axis=1).mean(
        axis=0
    )
    assert np.abs(bits - 0.5).max() < 0.02
