"""The study's figures and table on scores with a known answer."""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[3] / "bench" / "studies"))

import continue_study as study
from tile_scores import Scored


def test_changes_are_paired_and_by_the_mean_over_seeds() -> None:
    """Four tiles of two classes; a start loses one tile of a seed, then both seeds do."""
    found = Scored([["a", "b"], ["a", "a", "b", "b"]], np.arange(4))
    whole, less = np.ones(4), np.array([0.0, 1.0, 1.0, 1.0])
    shares = {}
    for start in study.STARTS:
        fallen = start == "naive"
        for seed in range(2):
            shares[start, 0, seed] = whole
            shares[start, 50, seed] = less if fallen and seed else whole
            shares[start, 100, seed] = less if fallen else whole
    result = study._figures(shares, found, 2)
    rows = {(row["start"], row["step"]): row for row in result["rows"]}
    assert rows["naive", 50]["change"]["value"] == -0.125
    assert rows["naive", 50]["changes"] == [0.0, -0.25]
    assert rows["naive", 100]["change"]["value"] == -0.25
    assert rows["careful", 100]["change"]["value"] == 0
    text = study.table({"tiles": result})
    assert "tiles: 1.000 before the first step" in text
    assert "| start | change after 50 | change after 100 |" in text
    assert "| naive | -0.125 [" in text
    assert "| careful | +0.000 [+0.000, +0.000] | +0.000 [+0.000, +0.000] |" in text
