"""The kernels under compute-sanitizer, with a stand-in for it: what runs, what is clean, what goes on."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"
CLEAN = "12 passed, 30 deselected in 3.00s\n========= ERROR SUMMARY: 0 errors\n"


@pytest.fixture
def sanitize(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "sanitize", raising=False)
    return importlib.import_module("sanitize")


def test_clean_is_tests_that_ran_and_no_error(sanitize: ModuleType) -> None:
    def clean(code: int, output: str) -> bool:
        return sanitize.judge("memcheck", code, output, 1.0).clean

    assert clean(0, CLEAN)
    assert clean(0, CLEAN.replace("ERROR SUMMARY: 0", "RACECHECK SUMMARY: 0 hazards displayed"))
    assert not clean(0, CLEAN.replace("12 passed", "12 skipped"))  # no card: nothing was checked
    assert not clean(0, "12 passed")  # killed before its summary
    assert not clean(1, CLEAN)
    found = sanitize.judge(
        "memcheck",
        9,
        "========= Invalid __global__ write of size 1\n12 passed\n========= ERROR SUMMARY: 3",
        1.0,
    )
    assert (found.clean, found.errors) == (False, 3)
    assert "Invalid __global__ write" in found.said


def test_one_that_fails_does_not_stop_the_next(
    sanitize: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(
        "#!/bin/sh\n"
        'case "$2" in racecheck) sleep 60;; initcheck) echo "========= Uninitialized read"; exit 9;; esac\n'
        f'echo "{CLEAN.strip()}"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(sanitize, "describe", lambda: {"gpus": ["a card"]})
    path = tmp_path / "found.json"
    assert sanitize.main(["--limit", "0.5", "--json", str(path)]) == 1
    rows = json.loads(path.read_text())["rows"]
    assert {row["tool"]: row["clean"] for row in rows} == {
        "memcheck": True, "racecheck": False, "synccheck": True, "initcheck": False,
    }  # fmt: skip
    assert "Uninitialized read" in capsys.readouterr().out


def test_without_a_card_nothing_is_called_clean(
    sanitize: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanitize, "describe", lambda: {"gpus": []})
    with pytest.raises(SystemExit, match="no NVIDIA GPU"):
        sanitize.main([])


def test_the_tools_run_without_the_pool_and_only_memcheck_takes_the_long_tests(sanitize: ModuleType) -> None:
    for tool in sanitize.TOOLS:
        words = [str(word) for word in sanitize.command(tool)]
        assert "helpers.no_pool" in words
        assert words[words.index("--report-api-errors") + 1] == "no"
        assert ("-k" in words) == (tool != "memcheck")
