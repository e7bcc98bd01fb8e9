"""What damage does to the order: a pure function of the tiles that are damaged."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pathtrain.data import order
from pathtrain.data.damaged_tiles import Damage
from pathtrain.data.source import TileSource
from pathtrain.errors import TrainError


class Tiles:
    """A source of so many tiles, which knows no more than their order."""

    root, said = Path("data"), "data"

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def reach(self) -> int:
        return 2 * self.count

    def order(self, positions: Any, seed: int) -> Any:
        return order.permuted(positions, self.count, seed)

    def home(self, tile: int) -> Path:
        return self.root

    def name(self, tile: int) -> str:
        return f"tile {tile}"


def damage(count: int, limit: int = 1000) -> Damage:
    return Damage(cast(TileSource, Tiles(count)), seed=7, limit=limit)


def one_by_one(positions: Any, count: int, bad: set[int]) -> list[int]:
    found = []
    for position in positions.tolist():
        while (tile := int(order.permuted(position, count, 7)[0])) in bad:
            position += 1
        found.append(tile)
    return found


@pytest.mark.parametrize("count", [1, 2, 5, pytest.param(23, marks=pytest.mark.slow)])
def test_the_next_intact_tile_comes_instead(count: int) -> None:
    """However many are damaged, at the end of an epoch too."""
    rng = np.random.default_rng(count)
    positions = np.arange(4 * count)
    for bad in range(count):
        found, which = damage(count), set(rng.permutation(count)[:bad].tolist())
        for tile in which:
            found.add(tile, "spoilt")
        assert found.tiles(positions).tolist() == one_by_one(positions, count, which)
        picked = rng.permutation(positions)
        assert found.tiles(picked).tolist() == one_by_one(picked, count, which)


def test_the_order_of_finding_changes_nothing_but_the_list() -> None:
    one, other = damage(9), damage(9)
    for tile in (2, 5, 2, 8):
        one.add(tile, "spoilt")
    for tile in (8, 2, 5):
        other.add(tile, "spoilt")
    assert np.array_equal(one.tiles(np.arange(50)), other.tiles(np.arange(50)))
    assert [str(found) for found in one.found] == ["tile 2: spoilt", "tile 5: spoilt", "tile 8: spoilt"]
    assert {found.tile for found in one.found} == {found.tile for found in other.found}


def test_every_tile_damaged() -> None:
    found = damage(3)
    for tile in range(3):
        found.add(tile, "spoilt")
    with pytest.raises(TrainError, match=r"^data: every tile is damaged; run `pathprep verify data`$"):
        found.tiles(np.arange(2))


def test_the_limit() -> None:
    found = damage(9, limit=4)
    for tile in (1, 2, 3, 4, 4, 1):
        found.add(tile, "spoilt")
    message = (
        r"^data: 5 tiles are damaged, more than loader.max_damaged=4: tile 1: .* 3: spoilt; \.\.\.\. See"
    )
    with pytest.raises(TrainError, match=message):
        found.add(5, "spoilt")
