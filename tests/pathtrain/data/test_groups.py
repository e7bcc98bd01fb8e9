"""Trees of groups: exact shares in every cycle of every level, turns of a group's tiles, any place first."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathtrain.data.groups import Grouped, Level, draws_of, shares_as_draws, tree
from pathtrain.data.order import Ints

# datasets -> slides -> resolutions, each (draws, its own children or its tiles)
Tree = tuple[int, "list[Tree] | int"]


def trees(depth: int) -> st.SearchStrategy[Tree]:
    below = st.integers(1, 6) if depth == 0 else st.lists(trees(depth - 1), min_size=1, max_size=3)
    return st.tuples(st.integers(1, 3), below)  # type: ignore[return-value]


def made_of(root: list[Tree]) -> Grouped:
    """Of nested lists, level by level."""
    levels, here = list[Level](), [root]
    while True:
        starts = np.cumsum([0, *(len(parent) for parent in here)])
        children = [child for parent in here for child in parent]
        levels.append(Level(starts, np.array([draws for draws, _ in children])))
        if isinstance(children[0][1], int):
            break
        here = [child for _, child in children]  # type: ignore[misc]
    sizes = np.array([size for _, size in children])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    names = np.array([str(number) for number in range(len(sizes))])
    return Grouped({"slide": names}, tuple(levels), ends, ends[:-1], ends[:-1])


def children_of(made: Grouped, groups: Ints) -> list[Ints]:
    """The nodes of each level that groups (B,) are below."""
    found = [groups]
    for level in reversed(made.levels[1:]):
        found.append(np.searchsorted(level.starts, found[-1], side="right") - 1)
    return found[::-1]


@settings(max_examples=15, deadline=None)
@given(st.lists(trees(2), min_size=1, max_size=3), st.integers(0, 2**63 - 1))
def test_every_level_keeps_its_shares_and_tiles_take_turns(root: list[Tree], seed: int) -> None:
    made = made_of(root)
    assert made.shares.sum() == pytest.approx(1)
    count = min(4 * made.reach, 2000)
    tiles = made.order(np.arange(count), seed)
    groups = np.searchsorted(made.starts, tiles, side="right") - 1
    nodes = children_of(made, groups)
    for level, node in zip(made.levels, nodes, strict=True):
        parents = np.searchsorted(level.starts, node, side="right") - 1
        for parent in range(len(level.counts)):
            own = node[parents == parent]
            cycle, first = level.cycles[parent], level.starts[parent]
            expected = level.draws[first : level.starts[parent + 1]].tolist()
            for at in range(0, len(own) - cycle + 1, cycle):  # every cycle, whatever came between
                assert np.bincount(own[at : at + cycle] - first, minlength=len(expected)).tolist() == expected
    for group, size in enumerate(made.sizes.tolist()):
        own = tiles[groups == group]
        for at in range(0, len(own) - size + 1, size):
            assert len(set(own[at : at + size].tolist())) == size
    # any places, in any order, from a new object: nothing is remembered
    some = np.random.default_rng(seed % 2**32).permutation(count)[:50]
    assert np.array_equal(made_of(root).order(some, seed), tiles[some])


@settings(max_examples=20, deadline=None)
@given(st.lists(trees(1), min_size=1, max_size=2), st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_so_many_positions_have_every_tile(root: list[Tree], seed: int, start: int) -> None:
    made = made_of(root)
    found = made.order(start + np.arange(made.reach), seed)
    assert len(set(found.tolist())) == made.starts[-1]


def test_parents_of_the_same_weights_do_not_go_in_step() -> None:
    """Two hundred slides, each with two resolutions, one twice as often: each slide has its own order."""
    made = made_of([(1, [(2, 5), (1, 5)])] * 200)  # type: ignore[list-item]
    groups = np.searchsorted(made.starts, made.order(np.arange(200 * 30), 3), side="right") - 1
    rows = np.empty((200, 30), np.int64)
    for slide in range(200):
        rows[slide] = groups[groups // 2 == slide] % 2
    assert (rows.reshape(200, 10, 3).sum(axis=2) == 1).all()
    assert len({row.tobytes() for row in rows}) > 150


def test_a_tree_of_stretches() -> None:
    """Stretches in any order; empty ones, and nodes that have no other, are left out."""
    dataset = np.array([1, 0, 0, 1, 0, 2])
    slide = np.array([4, 2, 3, 4, 2, 9])
    sizes = np.array([5, 3, 2, 1, 4, 0])
    firsts = np.array([0, 5, 8, 10, 11, 15])
    levels, starts, begins, places, leaves = tree(
        [dataset, slide], firsts, sizes, [lambda some: 1 + 2 * (some == 1), None]
    )
    assert [level.starts.tolist() for level in levels] == [[0, 2], [0, 2, 3]]
    assert [level.draws.tolist() for level in levels] == [[1, 3], [1, 1, 1]]
    assert [leaf.tolist() for leaf in leaves] == [[0, 0, 1], [2, 3, 4]]
    assert starts.tolist() == [0, 7, 9, 15]
    assert (begins.tolist(), places.tolist()) == ([5, 11, 8, 0, 10], [0, 3, 7, 9, 14])
    made = Grouped({"x": leaves[1].astype(str)}, levels, starts, begins, places)
    assert made.shares.tolist() == [0.125, 0.125, 0.75]
    drawn = Counter(made.order(np.arange(3360), 0).tolist())
    assert drawn == {
        **dict.fromkeys([5, 6, 7, 11, 12, 13, 14], 60),
        **dict.fromkeys([8, 9], 210),
        **dict.fromkeys([0, 1, 2, 3, 4, 10], 420),
    }
    assert made.shares_of(np.array([0, 5, 15])) == pytest.approx([0.625, 0.375])


@pytest.mark.parametrize("weights", [[1e-12, 1.0, 1e12], [1.0] * 7, [0.1, 0.2, 0.7], [5.0]])
def test_weights_become_whole_draws(weights: list[float]) -> None:
    drawn = shares_as_draws(np.array(weights))
    assert drawn.min() >= 1
    share = np.array(weights) / sum(weights)
    assert np.abs(drawn / drawn.sum() - share).max() <= len(weights) / 1000


def test_small_whole_weights_are_kept_exactly() -> None:
    assert draws_of(np.array([0.2, 0.6, 0.2])).tolist() == [1, 3, 1]
    assert draws_of(np.array([3.0])).tolist() == [1]
    assert draws_of(np.array([2.0, 3.0])).sum() == 1000
