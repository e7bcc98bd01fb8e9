"""What a step sees of a slide: regions drawn without state, tiles turned as coded."""

import numpy as np
import torch

from pathtrain.data.layout import Layout
from pathtrain.data.slide_views import drawn, orient, orientations

SEED = 3


def slide(count: int = 40) -> Layout:
    """Tiles of a 9 x 9 grid with gaps."""
    cells = np.random.default_rng(0).choice(81, count, replace=False)
    return Layout.of(np.arange(100, 100 + count), cells % 9, cells // 9, side=2)


def test_drawn_regions_hold_the_tiles_that_they_held() -> None:
    whole = slide()
    at = {tuple(place): number for number, place in enumerate(whole.places.tolist())}
    part = drawn(whole, 5, SEED, 0)
    assert len(part.counts) == len(part.cells) == len(part.places) == 5
    assert part.counts.sum() == len(part.tiles) < len(whole.tiles)
    for place, cells in zip(part.places.tolist(), part.cells, strict=True):
        before = whole.cells[at[tuple(place)]]
        kept, was = (np.append(layout.tiles, -1) for layout in (part, whole))
        np.testing.assert_array_equal(kept[cells], was[before])
    assert part.gaps
    starts = np.cumsum(part.counts) - part.counts
    for start, count, cells in zip(starts, part.counts, part.cells, strict=True):
        assert sorted(cells[cells < len(part.tiles)]) == list(range(start, start + count)), "by region"


def test_drawing_depends_on_seed_and_place_alone_and_reaches_every_region() -> None:
    whole = slide()

    def places(seed: int, place: int) -> list[list[int]]:
        found: list[list[int]] = drawn(whole, 2, seed, place).places.tolist()
        return found

    assert places(SEED, 7) == places(SEED, 7)
    many = [places(SEED, place) for place in range(100)]
    assert {tuple(place) for found in many for place in found} == {tuple(p) for p in whole.places.tolist()}
    assert [places(SEED + 1, place) for place in range(100)] != many
    assert drawn(whole, len(whole.counts), SEED, 0) is whole


def test_tiles_are_turned_as_coded_and_the_background_stays() -> None:
    pixels = torch.arange(9 * 4 * 4 * 3, dtype=torch.uint8).view(9, 4, 4, 3)
    before = pixels.numpy().copy()
    orient(pixels, np.arange(8))
    for code in range(8):
        tile = before[code, :, ::-1] if code >= 4 else before[code]
        np.testing.assert_array_equal(pixels[code].numpy(), np.rot90(tile, code % 4))
    np.testing.assert_array_equal(pixels[8].numpy(), before[8])


def test_orientations_differ_by_tile_and_time_and_are_all_there() -> None:
    tiles = np.arange(200)
    codes = orientations(tiles, SEED, 0)
    np.testing.assert_array_equal(codes[50:60], orientations(tiles[50:60], SEED, 0))
    assert set(codes.tolist()) == set(range(8))
    assert (codes != orientations(tiles, SEED, 1)).any()
