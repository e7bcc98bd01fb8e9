"""The extras: those that hold others hold all of them."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def test_larger_extras_hold_the_smaller_ones() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for cuda in ("cuda12", "cuda13"):
        assert set(extras["train"]) < set(extras[cuda])
    single = [items for name, items in extras.items() if name not in ("all", "cuda12", "test", "lint")]
    assert set(extras["all"]) == {item for items in single for item in items}
    # pip 23.2 fails on an extra that names another
    assert not [item for items in extras.values() for item in items if item.startswith("pathprep[")]
