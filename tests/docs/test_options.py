"""What the pages say of the commands: every option that they name exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import pathprep.cli
import pathtrain.cli

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
# Of docker, torchrun, Slurm, hf, tests/fuzz/slides.py, bench/gpu/run.py and bench/studies
OTHERS = {"--rm", "--ipc", "--user", "--nproc-per-node", "--partition", "--time", "--gres", "--mutations"}
OTHERS |= {"--only", "--rehearse", "--seconds", "--local-dir", "--onnx"}


def options(command: Any) -> Iterator[str]:
    """Every option of a command and of those in it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner)


APPS = [typer.main.get_command(app) for app in (pathprep.cli.app, pathtrain.cli.app)]
KNOWN = {"--help", *OTHERS, *(name for app in APPS for name in options(app))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text()))
    assert named <= KNOWN
