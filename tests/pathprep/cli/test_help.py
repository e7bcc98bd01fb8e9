"""Help: instant, in panels, the same words for the same options."""

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from pathprep.cli import app
from pathprep.cli.dialect import PANELS

HEAVY = {"numpy", "scipy", "numba", "pyarrow", "torch", "PIL", "tifffile", "yaml", "fsspec", "skimage"}
COMMANDS = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", [[], ["shard"], ["target"]], ids=["pathprep", "shard", "target"])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['pathprep', *{words}, '--help']\n"
        "from pathprep.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('loaded:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "typer" in loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert not [name for name in loaded if name.startswith("pathprep.sharding")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [80, 120])
def test_help_of_every_command(command: str, columns: int) -> None:
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= columns
    heads = [re.sub(r"[╭╮─]", "", line).strip() for line in lines if line.startswith("╭─")]
    panels = [head for head in heads if head in PANELS]
    assert panels == sorted(panels, key=PANELS.index)
    assert set(heads) <= {"Arguments", "Options", *PANELS}
    assert "--json" in done.output
    assert "--out-json" in done.output


def test_what_most_people_need_comes_first() -> None:
    text = CliRunner().invoke(app, ["shard", "--help"], env={"COLUMNS": "100"}).output
    first = text[text.index("─ Options ─") : text.index("─ What goes in ─")]
    assert re.findall(r"│ (--[\w-]+)", first) == [
        "--out",
        "--tile",
        "--mpp",
        "--stain",
        "--workers",
        "--dry-run",
        "--help",
    ]
