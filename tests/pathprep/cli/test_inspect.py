"""What `pathprep inspect` shows, and where it shows a picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff
from rich.console import Console

from pathprep.cli import inspect
from pathprep.cli.half_blocks import UPPER_HALF, can_show, half_blocks
from pathprep.sharding.inspect import look


def console(**options: object) -> Console:
    given = {"force_terminal": True, "color_system": "truecolor", "legacy_windows": False, "width": 100}
    file = io.TextIOWrapper(io.BytesIO(), "utf-8")
    return Console(file=file, _environ={}, **(given | options))  # type: ignore[arg-type]


def printed(on: Console) -> str:
    on.file.flush()
    return on.file.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_two_pixels_a_character() -> None:
    on = console()
    on.print(half_blocks(np.array([[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]]], np.uint8)))
    text = printed(on)
    assert text.count(UPPER_HALF) == 2
    assert "38;2;1;2;3;48;2;4;5;6m" in text
    assert "38;2;7;8;9m" in text


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, True),
        ({"color_system": "256"}, True),
        ({"color_system": "standard"}, False),
        ({"color_system": None}, False),
        ({"force_terminal": False}, False),
    ],
)
def test_a_picture_only_where_the_terminal_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], shown: bool
) -> None:
    on = console(**options)
    monkeypatch.setattr(inspect, "output", on)
    assert can_show(on) == shown
    on.print(inspect._shown(look(write_tiff(tmp_path / "a.tif", tissue(600, 700)))))
    text = printed(on)
    assert (UPPER_HALF in text) == shown
    lines = [line.count(UPPER_HALF) for line in text.splitlines() if UPPER_HALF in line]
    assert not lines or (set(lines), len(lines)) == ({40}, 17)


def test_words_for_what_was_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Aperio Image Library v1\r\n600x700|AppMag = 20|MPP = 0,5"
    path = write_tiff(tmp_path / "a.b.svs", tissue(600, 700), mpp=352.7778, description=text)
    on = console(force_terminal=False, width=160)
    on.print(inspect._facts_table(look(path).facts))
    words = printed(on)
    assert "700 x 600 px (0.3 x 0.3 mm)" in words
    assert "0.5 (aperio.MPP): MPP = 0,5" in words
    assert "also there: TIFF resolution tags: 28.3465 pixels per cm, which programs write where" in words
    assert "a_b (for a.b)" in words
    assert "without tissue" in words
    bare = write_tiff(tmp_path / "c.tif", tissue(600, 700), mpp=None)
    on = console(force_terminal=False, width=160)
    on.print(inspect._facts_table(look(bare).facts))
    assert "not stated" in printed(on)
    assert "Problem" in printed(on)
    coarse = write_tiff(tmp_path / "d.tif", tissue(600, 700), mpp=2.0)
    on = console(force_terminal=False, width=160)
    on.print(inspect._facts_table(look(coarse, mpp=0.5).facts))
    assert "not stated" not in printed(on)
    assert "2 (TIFF resolution tags)" in printed(on)
    assert "coarser than the 0.5 asked for" in printed(on)
