"""An image whose decoder crashes in C: it alone is lost, and named; its shard is made."""

import sys
from pathlib import Path

import pytest
from helpers.deadly import Deadly
from helpers.tilesets import folders, saved, tile

from pathprep.dataset.marker import TileSetMarker
from pathprep.launchers.base import Board
from pathprep.launchers.local import Local
from pathprep.params.stain import StainParams
from pathprep.params.tile_set import TileParams
from pathprep.sharding.run import run as run_tasks
from pathprep.tilesets import apart
from pathprep.tilesets.find import find
from pathprep.tilesets.items import Item
from pathprep.tilesets.run import plan


@pytest.mark.parametrize("threads", [1, 3])
def test_an_image_that_kills_its_decoder_costs_itself(threads: int, tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {f"c/{n}.png": tile(n) for n in range(12)})
    params, out = TileParams(stain=StainParams("none"), mpp=0.5), tmp_path / "out"
    planned = plan(find(root), out, params)
    victim = (root / "c" / "7.png").read_bytes()
    tasks = [Deadly(out, part, params, planned.build_id, threads, victim=victim) for part in planned.todo]
    summary = run_tasks(planned, tasks, out, Local(1))
    assert summary.failures == {}
    (made,) = summary.markers.values()
    assert isinstance(made, TileSetMarker)
    assert made.tiles == 11
    assert [(image.image, image.error) for image in made.damaged] == [
        ("c/7.png", "its decoder crashes (SIGSEGV), 60 s")
    ]


def test_only_what_dies_by_a_signal_is_guilty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(saved(tile(1), "JPEG"))
    (tmp_path / "b.jpg").write_bytes(b"none")
    for name in ("a.jpg", "b.jpg", "gone.jpg"):
        assert apart.kills(tmp_path, Item(name), 60) == ""
    lines = {
        "kill -SEGV $$": "its decoder crashes (SIGSEGV)",
        "kill -KILL $$": "",  # by the system, whose memory is short, and not by the image
        "kill -TERM $$": "",
        "sleep 9": "its decoder does not come to an end within 0.1 s",
    }
    for line, said in lines.items():
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        monkeypatch.setattr(apart, "START_S", 0.2)
        assert apart.kills(tmp_path, Item("a.jpg"), 0.1) == said


def test_it_runs_no_code_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of somebody else's may hold modules of that name, and people stand in its folder."""
    (tmp_path / "json.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.chdir(tmp_path)
    assert apart.kills(tmp_path, Item("gone.png"), 60) == ""


def test_parts_are_known_of_a_worker_that_is_gone() -> None:
    board = Board(2)
    progress = board.writer(1)
    progress.at(0, 4)
    progress.at(1, 0)
    progress.at(99, 7)
    progress.at(0, None)
    assert (board.at(0), board.at(1)) == (set(), {0, 7})
    assert board.totals() == (0, 0, dict.fromkeys(board.totals()[2], 0))
