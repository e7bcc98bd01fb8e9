"""Sentences say what the figures mean, and not more."""

from typing import Any

import pytest

from pathtrain.evaluate.shifts.words import said


def result(**row: Any) -> dict[str, Any]:
    told = {"group_kind": "patient", "apart": "group", "notes": [], "left_out": {}}
    return {"results": [row], "by": "scanner", "drop": {"classes": ["a", "b"]}, **told}


@pytest.mark.parametrize(
    ("index", "chance", "words"),
    [
        (0.3, 0.5, ("the scanner more often than the class", "the features follow it less than that")),
        (0.7, 0.8, ("the class more often than the scanner", "the features follow it less than that")),
        (0.9, 0.8, ("the class more often than the scanner", "the features follow it more than that")),
    ],
)
def test_the_index_is_held_against_a_half_and_against_chance(
    index: float, chance: float, words: tuple[str, str]
) -> None:
    (line,) = said(result(index=index, index_chance=chance))
    assert all(each in line for each in words)


def test_a_drop_from_chance_says_nothing() -> None:
    (line,) = said(result(drop=0.02, drop_outside=-0.02, drop_scores=[0.51, 0.52]))
    assert line.startswith("Trained on even sets the class is told with 0.51, and 0.50 is chance")
    (line,) = said(result(drop=-0.125, drop_outside=0.01, drop_scores=[0.9, 0.7]))
    assert "12.5% of the score is lost on average, and nothing of the score is lost at other values" in line


def test_tiles_that_a_margin_leaves_out_are_counted() -> None:
    row = {"croma": 0.1, "fragile": 0.2, "tail": -0.3, "margin_left_out": 7, "margin_nearest": 5}
    assert said(result(**row) | {"tiles": 20})[1].startswith(
        "7 of 20 tiles lack 5 neighbours of the same class"
    )


def test_own_share_is_said_of_other_patients() -> None:
    (line,) = said(result(excess=0.1, own_share=0.28, share_chance=0.2))
    assert line == "28% of the nearest tiles of other patients share the scanner, 20% by chance."
