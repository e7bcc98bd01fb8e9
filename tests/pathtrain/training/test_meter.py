"""Rows of a run whose objectives take turns."""

from pathlib import Path

import pytest
from helpers.hierarchies import REGION, SMALL, write_labels, write_slides

from pathtrain.recipes.load import load
from pathtrain.training import row_keys
from pathtrain.training.logs import rows
from pathtrain.training.pretrain import pretrain

SLIDE = "slide: {weight: 1.0, batch: 2, side: 2, draw: 3, orient: true, class_weights: balanced, chunk: 5}"
TURNS = f"[{{name: turns, steps: 7, alternate: in_turn, tile: {{weight: 1.0, batch: 4}}, {REGION}, {SLIDE}}}]"


def test_each_objective_is_the_mean_of_the_steps_that_had_it(tmp_path: Path) -> None:
    """Whatever ``log_every`` is; each row against those of single steps."""
    write_slides(tmp_path / "dataset")
    write_labels(tmp_path / "labels.csv")
    found = {}
    for every in (1, 4):
        settings = [*SMALL, f"hierarchy.phases={TURNS}", f"log_every={every}"]
        run = tmp_path / f"every{every}"
        pretrain(
            tmp_path / "dataset", load("exaonepath2-tiny", settings), run, labels=tmp_path / "labels.csv"
        )
        found[every] = rows(run)
    single, (first, last) = found[1], found[4]
    assert ["tile_kl" in row for row in single] == [n % 3 == 0 for n in range(7)]
    assert [(row["step"], row["steps"]) for row in (first, last)] == [(4, 4), (7, 3)]
    for row in (first, last):
        of = single[row["step"] - row["steps"] : row["step"]]
        for name in ("tile_loss", "region_kl", "region_outputs_used", "slide_loss", "gradient_norm_stage3"):
            own = [step[name] for step in of if name in step]
            assert row[name] == pytest.approx(sum(own) / len(own), rel=1e-9), name
        assert {name for name in row if row_keys.of(name) is None} == set()
    assert len([row for row in single if "gradient_norm_stage3" in row]) == 2
