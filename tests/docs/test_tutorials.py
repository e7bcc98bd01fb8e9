"""The tutorials' code, run as it stands on the pages, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"

# Runs a page's blocks in their order; those in Python share their names
DRIVER = """
import re, subprocess, sys
from pathlib import Path

names = {"__name__": "tutorial"}
blocks = re.findall(r"^```(bash|python)\\n(.*?)^```$", Path(sys.argv[1]).read_text(), re.M | re.S)
for language, code in blocks:
    print(code, flush=True)
    if language == "bash":
        subprocess.run(["bash", "-euc", code], check=True)
    else:
        exec(code, names)
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(programs)}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(page)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0
