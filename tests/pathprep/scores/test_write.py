"""Files of scores as this project writes them, read back."""

from pathlib import Path

import numpy as np
import pytest

from pathprep.errors import UsageError
from pathprep.scores.columns import Classes
from pathprep.scores.read import read_scores
from pathprep.scores.write import Tiles, write_scores


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_round_trip(tmp_path: Path, ending: str) -> None:
    coords = np.array([[0, 64], [64, 64]])
    slides = [
        Tiles('S1, "left"', coords, 64, {"p": np.array([0.25, np.nan]), "class": ["a;b", ""]}),
        Tiles("S2", coords + 128, 32, {"p": np.array([0.5, 1.0]), "class": ["a;b", "c"]}),
    ]
    path = tmp_path / "made" / f"s.{ending}"
    assert write_scores(path, slides) == 4
    found = read_scores(path)
    assert found.ranges == {"p": (0.25, 1.0)}
    one = found.only('S1, "left"')
    assert np.stack([one.x, one.y, one.side], axis=1).tolist() == [[0, 64, 64], [64, 64, 64]]
    assert one.columns["p"][0] == 0.25
    assert np.isnan(one.columns["p"][1])
    classes = one.columns["class"]
    assert isinstance(classes, Classes)
    assert (classes.names, classes.codes.tolist()) == (("a;b", "c"), [0, -1])
    assert found.only("S2").side.tolist() == [32, 32]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end its name in \.parquet or \.csv"):
        write_scores(tmp_path / "s.xlsx", [])
