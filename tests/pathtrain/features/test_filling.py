"""Batches across slides: every tile once, in order, its memory given back once it is copied."""

from typing import Any

import numpy as np
import pytest

from pathprep.streaming.stream import Tiles
from pathtrain.features.filling import Batch, Filling
from pathtrain.images import resize, resize_and_crop


def tiles(slide: int, count: int, side: int, given_back: list[int]) -> Tiles:
    pixels = np.random.default_rng(slide).integers(0, 256, (count, side, side, 3), np.uint8)
    pixels.flags.writeable = False  # as shared memory is
    return Tiles(slide, pixels, {}, lambda: given_back.append(slide))


@pytest.mark.parametrize("short", [None, 40])
def test_tiles_of_all_slides_fill_batches_in_order(short: int | None) -> None:
    given_back: list[int] = []
    some = [tiles(0, 5, 32, given_back), tiles(1, 23, 48, given_back), tiles(2, 1, 64, given_back)]
    filling, batches = Filling(32, 8, 2, short, pinned=False), list[Batch]()
    for each in some:
        batches += filling.add(each.slide, each)
    batches += filling.rest()
    filling.close()
    assert [batch.filled for batch in batches] == [8, 8, 8, 5]
    assert [batch.parts for batch in batches] == [[(0, 5), (1, 3)], [(1, 8)], [(1, 8)], [(1, 4), (2, 1)]]
    found = np.concatenate([batch.images[: batch.filled].numpy() for batch in batches])
    whole = [np.array(tile) for each in some for tile in each.pixels]
    expected = [resize(t, 32) if short is None else resize_and_crop(t, short, 32) for t in whole]
    np.testing.assert_array_equal(found, np.stack(expected))
    assert sorted(given_back) == [0, 1, 2]


def test_an_error_of_a_thread_is_raised_and_the_memory_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_given: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("pathtrain.features.filling.resize", fails)
    given_back: list[int] = []
    filling = Filling(32, 4, 2, None, pinned=False)
    with pytest.raises(MemoryError):
        list(filling.add("a", tiles(0, 20, 48, given_back)))
        list(filling.rest())
    filling.close()
    assert given_back in ([0], [])  # what was not begun is not taken
