"""Slides unlike the others are named on the terminal: some by name, all by number."""

from io import StringIO

import pytest
from rich.console import Console

from pathprep.cli.unlike import print_unlike
from pathprep.params.notes import ODD_MPP


def said(unlike: dict[str, list[str]]) -> str:
    text = StringIO()
    print_unlike(Console(file=text, width=400), unlike)
    return text.getvalue()


def test_a_slide_is_named_with_what_is_odd_about_it() -> None:
    assert "warning: 1 slide: no light passes the background" in said({"dark_background": ["[b]fluo"]})
    assert said({"dark_background": ["[b]fluo"]}).rstrip().endswith("[b]fluo")


@pytest.mark.parametrize("code", ["all_tissue", "not_he", ODD_MPP])
def test_many_slides_are_counted(code: str) -> None:
    text = said({code: [f"s{i}" for i in range(12)]})
    assert "warning: 12 slides: " in text
    assert "s0, s1, s2, s3, s4 and 7 more (--json lists them)" in text


def test_nothing_odd_says_nothing() -> None:
    assert said({}) == ""
