"""Measuring encoders: by the steps that a run takes, on tiles that are no worse than tissue to encode."""

import threading
from typing import Any

import numpy as np
import pytest

from pathprep.images import jpeg
from pathprep.tiles.engines import encoders
from pathprep.tiles.engines.cpu import CpuEngine


def test_the_card_gets_tiles_as_a_run_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's engine stands for a card's."""
    monkeypatch.setattr(encoders, "TILES", 3)
    seen, threads = [], set()

    class Engine(CpuEngine):
        def encode(self, tiles: Any, quality: int, subsampling: str) -> list[bytes]:
            threads.add(threading.get_ident())
            seen.append((tiles.shape, quality, subsampling))
            np.testing.assert_array_equal(tiles, encoders.drawn(3, 32))
            return super().encode(tiles, quality, subsampling)

    found = encoders.rates(Engine(), 32, 80, "444", rounds=1)
    assert all(rate is not None and rate > 0 for rate in found.values())
    assert set(seen) == {((3, 32, 32, 3), 80, "444")}
    assert len(seen) == 2 * encoders.LANES  # once before the clock runs
    assert threading.get_ident() not in threads


def test_without_a_card_only_the_cores_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "TILES", 2)
    found = encoders.rates(None, 32, 90, "420", rounds=1)
    assert found["gpu"] is None
    assert found["cpu"] is not None
    assert found["cpu"] > 0


def test_drawn_tiles_are_about_as_large_as_tissue() -> None:
    sizes = [len(jpeg.encode(tile, 90, "420")) for tile in encoders.drawn(4, 256)]
    assert all(10_000 < size < 40_000 for size in sizes)
