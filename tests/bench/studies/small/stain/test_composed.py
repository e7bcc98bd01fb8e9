"""Casts and slides, on drawn tiles of which all is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small.stain.composed import (
    Floats,
    Pixels,
    Tile,
    account,
    assigned,
    cast,
    dealt,
    drawn,
    listed,
    normalised,
    opened,
    opposite,
    recoloured,
    stains_of,
)

from pathprep import stain
from pathprep.errors import UsageError
from pathprep.stain import Target


def tissue(seed: int, side: int = 64) -> Pixels:
    """Any amounts of haematoxylin and eosin, in the reference's stains, in spots of 4 x 4 pixels."""
    rng, spots = np.random.default_rng(seed), side * side // 16
    density = Target.default().he @ np.stack([rng.uniform(0, 1.2, spots), rng.uniform(0.1, 1.2, spots)])
    seen = (240 * np.exp(-density.T)).reshape(side // 4, side // 4, 3)
    return np.repeat(np.repeat(seen, 4, axis=0), 4, axis=1).astype(np.uint8)


def written(folder: Path, pictures: Sequence[Pixels]) -> list[Tile]:
    folder.mkdir()
    tiles = []
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number}.png")
        tiles.append(Tile(folder / f"{number}.png", "tumour", f"case {number}"))
    return tiles


def degrees(one: Floats, other: Floats) -> Floats:
    """(N,) between vectors (N, 3)."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.degrees(np.arccos(((one * other).sum(axis=-1) / lengths).clip(-1, 1)))


def listing(folder: Path, tiles: Sequence[Tile]) -> Path:
    """The folder, with a table of its tiles."""
    lines = [f"{tile.path.name},{tile.label},{tile.group}" for tile in tiles]
    (folder / "labels.csv").write_text("\n".join(["file,label,group", *lines]))
    return folder


def haematoxylin(folder: Path) -> Floats:
    """(N, 3) as fitted. Eosin's fit is another under each cast: it leaves out pixels that are thin in red."""
    return stain.fit([opened(tile.path) for tile in listed(folder)]).he[:, :, 0]


def test_casts_turn_the_stains_and_macenko_turns_them_back(tmp_path: Path) -> None:
    """Haematoxylin is where the cast says, far from the other, and at the reference when normalised."""
    tiles = written(tmp_path / "plain", [tissue(seed) for seed in range(4)])
    before, reference, seen = haematoxylin(listing(tmp_path / "plain", tiles)), Target.default().he[:, 0], []
    for name, stains in zip("AB", opposite(0.4, 12), strict=True):
        matrix = cast(stains, stains_of(tiles))
        plain = recoloured([(tile, matrix) for tile in tiles], tmp_path / name)
        seen.append(haematoxylin(plain))
        assert degrees(before @ matrix.T, seen[-1]).max() < 5
        even = normalised(plain, tmp_path / f"{name}-n", lambda tile: "")
        assert account(even) == {"fitted": 4}
        assert degrees(haematoxylin(even), reference).max() < 5
    assert degrees(*seen).min() > 10


def test_without_a_matrix_a_tile_stays_as_it_is(tmp_path: Path) -> None:
    tiles = written(tmp_path / "plain", [tissue(0)])
    kept = recoloured([(tiles[0], None)], tmp_path / "kept")
    (tile,) = listed(kept)
    assert (tile.label, tile.group) == ("tumour", "case 0")
    assert np.abs(opened(tile.path).astype(int) - tissue(0)).mean() < 3  # JPEG


def test_casts_are_drawn_by_the_seed_and_leave_glass_white() -> None:
    """Some differ from what they are drawn around; the pixel that passes all light keeps doing so."""
    stains = drawn(5, 0.4, 12, 1)
    assert stains.shape == (5, 3, 2)
    assert np.array_equal(stains, drawn(5, 0.4, 12, 1))
    assert not np.allclose(stains, drawn(5, 0.4, 12, 2))
    assert stains.min() > 0  # no stain lets through more light than there is
    casts = np.array([cast(one, Target.default().he) for one in stains])
    assert casts @ Target.default().he == pytest.approx(stains)
    glass = np.full((1, 8, 8, 3), 239, np.uint8)
    assert np.abs(stain.apply(glass, casts[:1]).astype(int) - 239).max() <= 2


def test_tiles_that_cannot_be_fitted_take_their_slides_fit_or_are_counted(tmp_path: Path) -> None:
    """Glass on a slide with tissue, glass on a slide of its own, and glass of no slide."""
    glass = np.full((64, 64, 3), 240, np.uint8)
    tiles = written(tmp_path / "plain", [tissue(0), tissue(1), glass, glass, glass])
    slides = ["one", "one", "one", "two", ""]
    named = [(tile._replace(slide=slide), None) for tile, slide in zip(tiles, slides, strict=True)]
    plain = recoloured(named, tmp_path / "slides")
    found = normalised(plain, tmp_path / "normalised", lambda tile: tile.slide)
    assert account(found) == {"fitted": 2, "slide_fit": 1, "unfitted": 2}
    left = [opened(tile.path) for tile in listed(found)][3:]
    assert all(np.abs(pixels.astype(int) - 240).max() <= 1 for pixels in left)


def lot(groups: dict[str, int]) -> list[Tile]:
    """Three tiles of so many groups a class."""
    return [
        Tile(Path(f"{label}-{number}-{tile}"), label, f"{label}-{number}")
        for label, count in groups.items()
        for number in range(count)
        for tile in range(3)
    ]


def test_slides_hold_whole_groups_of_every_class() -> None:
    tiles = lot({"a": 9, "b": 8, "c": 13})
    slide = dealt(tiles, 4, 0, complete=True)
    assert set(slide.tolist()) == set(range(4))
    for group in {tile.group for tile in tiles}:
        assert len({at for at, tile in zip(slide.tolist(), tiles, strict=True) if tile.group == group}) == 1
    for label in "abc":
        counts = np.bincount([at for at, tile in zip(slide, tiles, strict=True) if tile.label == label])
        assert counts.min() >= 6
        assert counts.max() - counts.min() <= 3


def test_too_few_groups_for_the_slides_are_refused() -> None:
    tiles = lot({"a": 9, "b": 3})
    with pytest.raises(UsageError, match="b has 3 groups, too few to be on all 4 slides; ask for fewer"):
        dealt(tiles, 4, 0, complete=True)
    assert len(dealt(tiles, 4, 0, complete=False)) == 36


@pytest.mark.parametrize("agreement", [0.9, 0.5, 0.1])
def test_a_cast_agrees_with_its_class_in_the_share_that_was_asked_for(agreement: float) -> None:
    labels = ["x"] * 50 + ["y"] * 30
    casts = np.array(assigned(labels, "x", agreement, 0))
    assert (casts[:50] == "A").mean() == agreement
    assert (casts[50:] == "B").mean() == agreement
