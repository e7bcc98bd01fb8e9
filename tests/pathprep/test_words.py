"""Numbers as people say them."""

import pytest

from pathprep.words import counted, size_in_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (123_456, "123 kB"),
        (4.1e6, "4.1 MB"),
        (2e9, "2.0 GB"),
        (4.25e12, "4.2 TB"),
        (1.2e15, "1,200.0 TB"),
    ],
)
def test_sizes(value: float, words: str) -> None:
    assert size_in_words(value) == words


def test_one_is_one() -> None:
    said = [counted(0), counted(1, "tile"), counted(2000, "tile"), counted(2, "box", "boxes")]
    assert said == ["0 slides", "1 tile", "2,000 tiles", "2 boxes"]
