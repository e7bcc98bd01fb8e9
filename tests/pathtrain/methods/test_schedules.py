"""Schedules against the original DINO code's array and hand-computed values."""

import numpy as np
import pytest

from pathtrain.methods import schedules


def original(base: float, final: float, total: int, warmup: int) -> np.ndarray:
    """``cosine_scheduler`` of the original, restated from its definition: linspace, then a cosine."""
    steps = np.arange(total - warmup)
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * steps / max(1, len(steps))))
    return np.concatenate([np.linspace(0, base, warmup), cosine])


@pytest.mark.parametrize(("total", "warmup"), [(100, 0), (100, 1), (100, 10), (7, 3), (5, 5)])
def test_warmed_cosine_is_the_originals(total: int, warmup: int) -> None:
    ours = [schedules.warmed_cosine(step, total, warmup, 0.005, 2e-6) for step in range(total)]
    assert np.allclose(ours, original(0.005, 2e-6, total, warmup), rtol=1e-12)


def test_hand_computed_values() -> None:
    assert schedules.warmed_cosine(0, 101, 11, 1.0, 0.0) == 0
    assert schedules.warmed_cosine(5, 101, 11, 1.0, 0.0) == 0.5
    assert schedules.warmed_cosine(10, 101, 11, 1.0, 0.0) == 1
    assert schedules.warmed_cosine(11 + 45, 101, 11, 1.0, 0.0) == pytest.approx(0.5)
    assert schedules.cosine(0, 10, 0.996, 1) == pytest.approx(0.996)
    assert schedules.cosine(5, 10, 0.996, 1) == pytest.approx(0.998)


@pytest.mark.parametrize("warmup", [10, 30])
def test_a_warmup_longer_than_the_run_only_climbs(warmup: int) -> None:
    values = [schedules.warmed_cosine(step, 10, warmup, 1.0, 0.0) for step in range(10)]
    assert values == sorted(values)
    assert max(values) <= 1


def test_linear_climbs_and_stays() -> None:
    values = [schedules.linear(step, 4, 0.04, 0.08) for step in range(7)]
    assert values == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.08, 0.08, 0.08])
    assert schedules.linear(0, 0, 0.04, 0.07) == 0.07
