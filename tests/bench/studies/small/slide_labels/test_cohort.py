"""Composed slides share no original, DINO sees none of theirs; shared tiles are found under other casts."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from small.core.tiles import Row
from small.slide_labels.cohort import (
    FOLDS,
    NORMAL,
    CohortSettings,
    composed,
    originals,
    shared,
    table,
    thumbnail,
    write,
)

from pathprep.errors import UsageError

SMALL = CohortSettings(slides=5, originals=3, tumour=1, copies=2, grid=3, tile=32, dino=48)


def picture(seed: int, side: int = 64) -> np.ndarray:
    """Coarse noise (side, side); no two alike."""
    low = np.random.default_rng(seed).integers(40, 220, (8, 8)).astype(np.uint8)
    return np.asarray(Image.fromarray(low).resize((side, side), Image.Resampling.BICUBIC))


def drawn(each: int, copies: int = 2) -> tuple[list[str], np.ndarray]:
    """Classes and originals of tiles: ``each`` originals of a tumour, enough of normal tissue."""
    label, original = [], []
    for kind in NORMAL:
        for _ in range(each if kind != NORMAL[kind] else 40):
            label += [kind] * copies
            original += [original[-1] + 1 if original else 0] * copies
    return label, np.array(original)


def test_slides_share_no_original_and_hold_what_they_are_called() -> None:
    label, original = drawn(6)
    slides = composed(label, original, SMALL)
    owners: dict[int, set[str]] = {}
    for slide in slides:
        for tile in slide.tiles:
            owners.setdefault(int(original[tile]), set()).add(slide.name)
        kinds = Counter(label[tile] for tile in slide.tiles)
        normal = NORMAL[slide.diagnosis]
        assert kinds == ({normal: 6} if slide.diagnosis == normal else {normal: 4, slide.diagnosis: 2})
        assert len(set(slide.cells)) == 6
        assert max(slide.cells) < 9
    assert {len(names) for names in owners.values()} == {1}
    assert Counter(slide.fold for slide in slides) == dict.fromkeys(range(FOLDS), 5)
    assert Counter((slide.fold, slide.diagnosis) for slide in slides).most_common(1)[0][1] == 1
    assert composed(label, original, SMALL) == slides


def test_labels_of_a_slide() -> None:
    found = {slide.diagnosis: slide.labels for slide in composed(*drawn(6), SMALL)}
    assert found["lung_n"] == {"malignancy": "normal", "lung_subtype": "lung_n"}
    assert found["lung_scc"] == {"malignancy": "tumour", "lung_subtype": "lung_scc"}
    assert found["colon_aca"] == {"malignancy": "tumour", "lung_subtype": ""}


def test_slides_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(UsageError, match="too few originals of lung_aca"):
        composed(*drawn(4), SMALL)
    with pytest.raises(UsageError, match="does not fit into 2 x 2 cells"):
        composed(*drawn(6), SMALL.model_copy(update={"grid": 2}))
    with pytest.raises(UsageError, match="too few originals"):  # each has one tile, and two are asked for
        composed(*drawn(6, copies=1), SMALL)


def test_a_cast_changes_no_thumbnail() -> None:
    tile = picture(0)
    cast = (255 * (tile / 255) ** 1.7 * 0.8).round().astype(np.uint8)
    assert float((thumbnail(tile) * thumbnail(cast)).sum()) > 0.99
    assert float((thumbnail(tile) * thumbnail(picture(1))).sum()) < 0.7


def test_groups_that_hold_one_tile_turned_or_mirrored_are_one_original() -> None:
    tiles = [picture(seed) for seed in range(8)]
    tiles += [np.rot90(tiles[0]), tiles[3][:, ::-1]]
    group = [*"aabcdefg", "x", "y"]
    found, about = originals(np.stack([thumbnail(np.ascontiguousarray(tile)) for tile in tiles]), group)
    assert found[8] == found[0] == found[1]
    assert found[9] == found[3]
    assert len(set(found.tolist())) == 7
    assert (about["groups"], about["originals"]) == (9, 7)
    assert about["closest"] < 0.8


def test_what_is_written_is_equalised_and_dino_sees_no_slides_originals(tmp_path: Path) -> None:
    label, original = drawn(6)
    rows = []
    for number, (kind, group) in enumerate(zip(label, original.tolist(), strict=True)):
        path = tmp_path / f"{number}.png"
        # an original's tiles are turned
        Image.fromarray(np.rot90(picture(group, 32), number % 2)).convert("RGB").save(path)
        rows.append(Row(path, kind, f"g{group}", False))
    write(tmp_path / "made", rows, SMALL)
    slides = table(tmp_path / "made")
    assert len(slides) == 25
    used: list[np.ndarray] = []
    for row in slides:
        pixels = tifffile.imread(tmp_path / "made" / "slides" / f"{row['slide_id']}.tif")
        mask = np.asarray(Image.open(tmp_path / "made" / "masks" / f"{row['slide_id']}.png"))
        assert (mask > 0).sum() == 6 * 32 * 32
        assert (pixels[mask == 0] == 255).all()
        for cell in range(9):
            top, left = (32 * at for at in divmod(cell, 3))
            if mask[top, left]:
                tile = pixels[top : top + 32, left : left + 32, 0]
                assert set(np.bincount(tile.ravel(), minlength=256)) == {4}  # 1,024 pixels, 256 levels
                used.append(thumbnail(tile))
    dino = sorted((tmp_path / "made" / "dino").glob("*.png"))
    assert len(dino) + len(used) == len(rows)
    both = np.stack([*used, *(thumbnail(np.asarray(Image.open(path).convert("L"))) for path in dino)])
    found, _ = originals(both, [str(number) for number in range(len(both))])
    assert not set(found[: len(used)]) & set(found[len(used) :])
    with (tmp_path / "made" / "tiles" / "labels.csv").open() as file:
        assert Counter(row["group"] for row in csv.DictReader(file)) == {row["slide_id"]: 6 for row in slides}


def test_slides_that_share_a_tile_hang_together(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    common = picture(99, 224)
    for number in range(3):
        pixels = np.full((2048, 2048, 3), 255, np.uint8)
        for place in range(4):
            top, left = 128, 128 + 224 * place
            pixels[top : top + 224, left : left + 224] = picture(10 * number + place, 224)[..., None]
        if number < 2:  # under another cast, and mirrored
            tile = common if number == 0 else (common[:, ::-1] * 0.7).astype(np.uint8)
            pixels[352:576, 128:352] = tile[..., None]
        tifffile.imwrite(tmp_path / "cohort" / f"{number}.tif", pixels)
    assert shared(tmp_path) == {"slides": 3, "cells": 14, "cells_shared": 2, "components": [2, 1]}
