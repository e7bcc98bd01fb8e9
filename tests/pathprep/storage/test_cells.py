"""What counts as missing in a cell, and what is one class."""

import pytest

from pathprep.storage import cells

MISSING = (
    *(
        "",
        " ",
        "NA",
        "na",
        "N/A",
        "n/a",
        "#N/A",
        "NaN",
        "nan",
        "-nan",
        "None",
        "none",
        "null",
        "NULL",
        "<NA>",
    ),
    *("NaT", "[Not Available]", "[not available]", "[Not Applicable]", "[Unknown]", "[Discrepancy]"),
    *(
        "--",
        "'--",
        " '-- ",
        "not reported",
        "Not Reported",
        "Unknown",
        "[ Not Evaluated ]",
        "(null)",
        "#REF!",
        *("n.d.", "No data", "unlabelled", "pd.NA"),
    ),
    *("\u00a0", "\ufeff", "NA\u200b", "\tNA\n"),
)
CLASSES = (
    "-",
    "+",
    "0",
    "Nan Ning",
    "NANA",
    "no",
    "None of these",
    "negative",
    "[IDC]",
    "Completed",
    "unk",
    "N",
)


@pytest.mark.parametrize("cell", MISSING)
def test_missing(cell: str) -> None:
    assert cells.is_missing(cell)
    assert cells.known(cell) == cells.label(cell) == ""


@pytest.mark.parametrize("cell", CLASSES)
def test_classes(cell: str) -> None:
    assert not cells.is_missing(cell)
    assert cells.label(cell) == cells.known(cell) == cell


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        *(
            ("1.0", "1"),
            ("1", "1"),
            ("-1.0", "-1"),
            ("10.00", "10"),
            ("0.0", "0"),
            ("-0.0", "0"),
            ("1,0", "1"),
        ),
        *(
            ("1.5", "1.5"),
            ("01", "01"),
            ("1.0.0", "1.0.0"),
            ("1,000", "1,000"),
            ("1e0", "1e0"),
            ("G1.0", "G1.0"),
        ),
        *(("  a \n b ", "a b"), ("Gro\u0308ße", "Größe"), ("a\u200bb", "ab"), ("\ufeffIDC", "IDC")),
    ],
)
def test_one_class_in_several_spellings(cell: str, label: str) -> None:
    assert cells.label(cell) == label
    assert cells.label(label) == label
