"""The README: short, and its Python runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pathprep import testing

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 135


@pytest.mark.slow
def test_its_python_runs_as_it_stands(tmp_path: Path) -> None:
    testing.small_slides(tmp_path / "slides", size=1536)
    (block,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "lines.py").write_text(block)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "lines.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "['synth-000', 'synth-001']" in done.stdout
    assert {path.name for path in (tmp_path / "features").glob("*.h5")} == {"synth-000.h5", "synth-001.h5"}
