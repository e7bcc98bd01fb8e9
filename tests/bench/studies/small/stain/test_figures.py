"""Figures of seeds with a known answer."""

from typing import Any

import numpy as np
import pytest
from small.stain.figures import Statistic, beyond, compared
from small.stain.words import sentences

from pathtrain.evaluate.statistics import Doubles


def mean_of(values: Doubles) -> Statistic:
    """The mean over the groups of a sample."""
    return lambda copies: copies @ values / copies.sum(axis=1)


def test_a_difference_is_of_the_same_groups_and_seeds() -> None:
    """Groups and seeds differ by much, the two encoders by .05 in every one of them."""
    rng = np.random.default_rng(0)
    base = [rng.uniform(0.1, 0.9, 30) for _ in range(3)]
    rows = {"a": [mean_of(x + 0.05) for x in base], "b": [mean_of(x) for x in base]}
    found = compared(rows, 30, [("a", "b")], 0)
    (gap,) = found["differences"]
    assert gap["interval"] == pytest.approx([0.05, 0.05])
    assert gap["seeds"] == pytest.approx([0.05] * 3)
    low, high = found["rows"]["a"]["interval"]
    assert high - low > 0.1
    assert beyond(gap) == 1


def test_an_interval_holds_what_seeds_change() -> None:
    """Groups alike, seeds at 0, .1 and .2: Student's t of three values."""
    rows = {"a": [mean_of(np.full(12, value)) for value in (0.0, 0.1, 0.2)], "b": [mean_of(np.full(12, 0.1))]}
    found = compared(rows, 12, [("a", "b")], 0, (-1, 1))
    half = 4.302653 * 0.1 / np.sqrt(3)
    assert found["rows"]["a"]["interval"] == pytest.approx([0.1 - half, 0.1 + half])
    (gap,) = found["differences"]
    assert gap["seeds"] == pytest.approx([-0.1, 0, 0.1])
    assert beyond(gap) == 0
    assert found["rows"]["b"]["interval"] == pytest.approx([0.1, 0.1])


def test_seeds_that_cannot_be_paired_are_refused() -> None:
    rows = {"a": [mean_of(np.ones(4))] * 3, "b": [mean_of(np.ones(4))] * 2}
    with pytest.raises(ValueError, match="a and b are of differing seeds"):
        compared(rows, 4, [("a", "b")], 0)


def row(value: float, half: float = 0.01) -> dict[str, Any]:
    return {"value": value, "interval": [value - half, value + half]}


def found(gap: float, uncast: float = 0.0) -> dict[str, Any]:
    """Tests in which one difference is the same in every figure."""
    one = {"rows": {"none without casts": row(uncast)}, "differences": [{"of": "x", "less": "y", **row(gap)}]}
    names = {
        "shortcut": ["AUROC, fall"],
        "scanners": ["AUROC of the class", "balanced accuracy of the scanner", "robustness index"],
        "slides": ["own share", "content"],
    }
    return {test: {"figures": dict.fromkeys(figures, one)} for test, figures in names.items()}


def test_sentences_say_what_holds_and_what_does_not() -> None:
    """A figure of which less is better, one of which more is, and a difference within its interval."""
    said = sentences(found(0.2))
    assert len(said) == 7
    assert said[0].endswith("(AUROC, fall): the opposite holds for x against y (+0.200 [+0.190, +0.210]).")
    assert said[1].endswith("(AUROC of the class): holds for x against y (+0.200 [+0.190, +0.210]).")
    assert all(": not beyond the interval for x against y (" in one for one in sentences(found(0.005))[:-1])


def test_the_control_of_the_composing_is_told() -> None:
    assert "is the casts': without any it is 0.000 [" in sentences(found(0.2))[-1]
    assert "is not the casts' alone: without any it is 0.100 [" in sentences(found(0.2, uncast=0.1))[-1]
