"""The README: short, and its Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.toys import noise, write_dataset

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_its_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "dataset", {"a": noise(4)})
    monkeypatch.chdir(tmp_path)
    names = {"tiles": np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)}
    (block,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    exec(block, names)
    assert names["table"].num_rows == 4
    assert names["tiles"].shape == (2, 64, 64, 3)
