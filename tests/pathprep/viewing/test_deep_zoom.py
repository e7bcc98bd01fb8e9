"""Tiles of the Deep Zoom pyramid: sizes at every edge, and pixels against a plain reference."""

from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff

from pathprep.slides.slide import Slide
from pathprep.viewing import deep_zoom
from pathprep.viewing.deep_zoom import OVERLAP, TILE, DeepZoom, Tiles


@pytest.mark.parametrize("size", [(1, 1), (254, 254), (255, 508), (513, 257), (1000, 700), (4097, 33)])
def test_tiles_cover_every_level_without_a_gap(size: tuple[int, int]) -> None:
    """libvips' report 357 and OpenSlide's 111: an overlap at inner edges alone, at no edge of the picture."""
    zoom = DeepZoom(*size)
    assert zoom.size(zoom.last) == size
    assert zoom.size(0) == (1, 1)
    for level in range(zoom.last + 1):
        width, height = zoom.size(level)
        columns, rows = -(-width // TILE), -(-height // TILE)
        for column in range(columns):
            for row in range(rows):
                box = zoom.box(level, column, row)
                assert box is not None
                left, top, right, bottom = box
                assert left == (column * TILE - OVERLAP if column else 0)
                assert top == (row * TILE - OVERLAP if row else 0)
                assert right == (width if column == columns - 1 else (column + 1) * TILE + OVERLAP)
                assert bottom == (height if row == rows - 1 else (row + 1) * TILE + OVERLAP)
        assert zoom.box(level, columns, 0) is None
        assert zoom.box(level, 0, rows) is None
    assert zoom.box(zoom.last + 1, 0, 0) is None


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return tissue(701, 1003)


@pytest.fixture(scope="module")
def slide(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("z") / "a.tif", pixels, levels=3)


def test_pixels_of_every_tile(slide: Path) -> None:
    with Slide(slide) as opened:
        tiles = Tiles(opened)
        whole = opened.read(0, 0, 0, opened.width, opened.height)
        for level in range(tiles.zoom.last + 1):
            scale = 1 << (tiles.zoom.last - level)
            width, height = tiles.zoom.size(level)
            # averages of scale x scale pixels; what lies beyond the edge is as the edge is
            padded = np.pad(
                whole, ((0, height * scale - 701), (0, width * scale - 1003), (0, 0)), mode="edge"
            )
            expected = padded.reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
            for column in range(-(-width // TILE)):
                for row in range(-(-height // TILE)):
                    box = tiles.zoom.box(level, column, row)
                    made = tiles.read(level, column, row)
                    assert box is not None
                    assert made is not None
                    left, top, right, bottom = box
                    assert made.shape == (bottom - top, right - left, 3)
                    off = np.abs(made.astype(float) - expected[top:bottom, left:right])
                    # from level 0 exact; smaller levels were made by leaving pixels out
                    assert off.max() <= (0 if scale == 1 else 255)
                    assert off.mean() < (0.01 if scale == 1 else 14)


def test_a_slide_without_small_levels_is_read_from_an_overview(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "flat.tif", pixels)
    monkeypatch.setattr(deep_zoom, "MOST_REDUCTION", 2)
    monkeypatch.setattr(deep_zoom, "OVERVIEW", 500)
    with Slide(path) as opened:
        tiles = Tiles(opened)
        whole = opened.read(0, 0, 0, opened.width, opened.height)
        made = tiles.read(tiles.zoom.last - 3, 0, 0)
        assert made is not None
        assert made.shape == (88, 126, 3)
        padded = np.pad(whole, ((0, 3), (0, 5), (0, 0)), mode="edge")
        expected = padded.reshape(88, 8, 126, 8, 3).mean(axis=(1, 3))
        assert np.abs(made - expected).mean() < 4
        assert tiles._overview is not None


def test_the_smallest_level_is_one_pixel(slide: Path) -> None:
    with Slide(slide) as opened:
        made = Tiles(opened).read(0, 0, 0)
    assert made is not None
    assert made.shape == (1, 1, 3)
