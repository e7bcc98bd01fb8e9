"""The scripts of bench/gpu, which import each other as scripts do."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[3] / "bench"
SCRIPTS = ("machine", "runner", "parts", "rows", "table", "fatbin")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    for folder in (BENCH, BENCH / "gpu"):
        monkeypatch.syspath_prepend(str(folder))
    for name in SCRIPTS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return {name: importlib.import_module(name) for name in SCRIPTS}
