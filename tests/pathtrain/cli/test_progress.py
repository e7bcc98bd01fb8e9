"""Progress: a bar on a terminal, lines of the log elsewhere."""

import io
import logging

import pytest
from rich.console import Console

from pathtrain.cli.progress import tile_bars, watcher
from pathtrain.features.progress import TileProgress

ROW = {"step": 3, "loss": 2.5, "lr": 0.001, "images_s": 10.0, "data_wait": 0.25, "seconds_step": 60.0}


def test_a_row_of_training_is_a_line() -> None:
    out = io.StringIO()
    with watcher(Console(file=out, width=200)) as watch:
        watch(2, 63, None)
        watch(3, 63, ROW | {"feature_rank": 7.2})
    said = "loss 2.5000  lr 1.00e-03  10.0 images/s  waiting for data 25%  rank 7"
    assert out.getvalue() == f"step 3/63  {said}  1:00:00 left\n"


def work() -> None:
    progress = TileProgress(4, "embed")
    progress.advance(4)
    progress.line("a: 4 tiles")
    progress.note("b: failed")
    progress.note("")


@pytest.mark.parametrize("terminal", [False, True])
def test_tiles_are_a_bar_or_a_line_a_file(terminal: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pathtrain")
    out = io.StringIO()
    with tile_bars(Console(file=out, force_terminal=terminal, width=100)):
        work()
    lines, notes = caplog.messages[:-1], caplog.messages[-1]
    assert notes == "embed: b: failed"
    assert [line.rpartition(",")[0] for line in lines] == ([] if terminal else ["embed: a: 4 tiles"])
    assert ("embed" in out.getvalue()) == terminal
