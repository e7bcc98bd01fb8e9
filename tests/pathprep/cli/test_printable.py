"""What reaches a terminal: nothing that it would obey, whatever a name, a table or an error holds."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.slides import tissue, write_tiff
from rich.progress import Progress, TextColumn
from rich.table import Table

from pathprep.cli.printable import CleanConsole
from pathprep.storage.printable import printable

EVIL = "a\x1b]0;owned\x07b\x1b[2J\rc\u202etxt\u2066\u200b\x9bd\ndone\udcff[red]x[/][/nothing]"
SHOWN = r"a\x1b]0;owned\x07b\x1b[2J\rc\u202etxt\u2066\u200b\x9bd\ndone\xff[red]x[/][/nothing]"


def test_printable() -> None:
    assert printable(EVIL) == SHOWN
    assert printable("Größe 5 µm, 組織 😀") == "Größe 5 µm, 組織 😀"
    assert printable("s3://me:hunter2@host/a\x1b") == r"s3://me:***@host/a\x1b"


def as_text(console: CleanConsole) -> None:
    console.print(EVIL, markup=False, soft_wrap=True)


def as_markup(console: CleanConsole) -> None:
    console.print(f"{EVIL}", soft_wrap=True)


def in_a_table(console: CleanConsole) -> None:
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    console.print(table)


def in_a_bar(console: CleanConsole) -> None:
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bars:
        bars.add_task(EVIL)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("show", [as_text, as_markup, in_a_table, in_a_bar], ids=lambda each: each.__name__)
def test_no_sequence_reaches_a_terminal(show: Callable[[CleanConsole], None], terminal: bool) -> None:
    file = io.StringIO()
    show(CleanConsole(file=file, width=300, force_terminal=terminal, color_system=None, highlight=False))
    shown = file.getvalue()
    assert r"a\x1b]0;owned" in shown
    assert not set(shown) & set("\x07\x9b\u202e\u2066\u200b\udcff")
    assert "\x1b]0;" not in shown
    if not terminal:
        assert "\x1b" not in shown
    if show is as_text:
        assert shown == SHOWN + "\n"


def test_names_are_shown_as_they_can_be(tmp_path: Path) -> None:
    """Also where a terminal has ASCII only; and JSON stays JSON."""
    slide = write_tiff(tmp_path / "plain.tif", tissue(600, 600))
    name = os.fsencode(EVIL.replace("/", "") + "é.tif")
    good, bad = os.fsencode(tmp_path) + b"/" + name, os.fsencode(tmp_path) + b"/damaged" + name
    slide.rename(os.fsdecode(good))
    Path(os.fsdecode(bad)).write_bytes(b"II*\0")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "400"}
    command = [sys.executable, "-m", "pathprep", "inspect", "--default-mpp", "1"]
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more, good, bad], capture_output=True, env=environment, check=False)
        shown = done.stdout + done.stderr
        assert b"Traceback" not in shown, shown.decode()
        assert done.returncode == 1, shown.decode()
        assert not set(shown) & {0x1B, 0x07, 0x0D}
        assert rb"\x1b]0;owned\x07b" in done.stderr
        assert rb"\xe9.tif" in done.stderr
    assert "\x1b]0;owned\x07b" in json.loads(done.stdout)[0]["path"]


def test_an_argument_is_quoted_as_it_can_be(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pathprep", "shard", "x", "--no-such\x1b]0;owned\x07"],
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
    assert b"owned" in done.stderr


def test_pixels_are_shown_as_before() -> None:
    """Colours of our own reach the terminal."""
    file = io.StringIO()
    console = CleanConsole(file=file, force_terminal=True, color_system="truecolor", width=80)
    console.print("[red]ok[/red] ▀")
    assert "\x1b[31mok\x1b[0m" in file.getvalue()
    assert np.all([letter in file.getvalue() for letter in "▀"])
