"""Which slides and tiles are unlike the others."""

import numpy as np
import pytest
from helpers.markers import slide_marker

from pathprep.dataset.marker import StainRecord
from pathprep.reports import measure, stain_outliers, words
from pathprep.reports.measure import Measured


def a_slide(name: str, *, tiles: int = 100, focus: float = 3.0, **changes: float) -> Measured:
    """A measured slide; ``changes``: stain vectors and strengths by name."""
    he = [changes.get("h_red", 0.55), 0.2, 0.7, 0.8, 0.4, 0.5]
    fit = StainRecord(tuple(he), (2.0, changes.get("eosin", 1.0)))
    counts = {"counts": {"kept": tiles}, "stain": {"fitted": tiles}}
    return Measured(name, slide_marker("b", tiles=tiles, stain_fit=fit, **counts), focus=focus)


def test_slides_unlike_the_others_are_flagged() -> None:
    rng = np.random.default_rng(0)
    usual = [a_slide(f"s{n}", h_red=0.55 + 0.01 * rng.standard_normal()) for n in range(12)]
    odd = [
        a_slide("red", h_red=0.75),
        a_slide("strong", eosin=2.0),
        a_slide("few", tiles=9),
        a_slide("blurred", focus=1.0),
    ]
    measure.judge([*usual, *odd])
    assert [slide.flags for slide in usual] == [[]] * 12
    assert [slide.flags[0].text.split(":")[0] for slide in odd] == [
        "stain unlike the other slides",
        "stain unlike the other slides",
        "few tiles",
        "blurred",
    ]
    assert "red of haematoxylin" in odd[0].flags[0].text
    assert "strength of eosin" in odd[1].flags[0].text
    assert [slide.stain_outlier for slide in odd] == [True, True, False, False]
    assert "The stain of 2 of 16 slides" in str(words.findings([*usual, *odd], {}, 0))


def test_few_slides_are_not_compared() -> None:
    slides = [*(a_slide(f"s{n}") for n in range(6)), a_slide("red", h_red=0.9)]
    measure.judge(slides)
    assert all(slide.flags == [] for slide in slides)


def test_deviations() -> None:
    values = np.zeros((5, 6))
    values[:, 0] = [0.1, 0.2, 0.3, 0.4, 1.3]  # median 0.3, MAD 0.1
    values[:, 4] = [0, 0, 0, 0, 0.1]  # MAD 0: the floor of 0.05 holds
    found = stain_outliers.deviations(values)
    assert found[:, 0] == pytest.approx(np.array([0.2, 0.1, 0, 0.1, 1.0]) / 0.14826)
    assert found[4, 4] == pytest.approx(2)
    assert found[:, 1].max() == 0


def test_numbers_follow_the_row_major_vectors() -> None:
    found = stain_outliers.numbers([[1, 2, 3, 4, 5, 6]], [[np.e, 1]])
    assert found.shape == (1, 6)
    assert found[0] == pytest.approx([1, 5, 2, 6, 1, 0])
