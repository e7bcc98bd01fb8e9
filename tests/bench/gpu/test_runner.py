"""The runner of `make gpu`: limits, failures, and what is kept of them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = os.fork()
if child:
    open(sys.argv[1], "w").write(f"{os.getpid()} {child}")
time.sleep(60)
"""
Scripts = dict[str, ModuleType]


def part(scripts: Scripts, name: str, code: str, *arguments: object, limit: float = 20) -> Any:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return scripts["runner"].Part(name, words, limit)


def test_what_fails_or_is_too_slow_does_not_stop_the_next(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts["runner"], "GRACE", 0.3)
    said: list[str] = []
    every = [
        part(scripts, "good", "print('fine')"),
        part(scripts, "bad", "print('why'); raise SystemExit(3)"),
        scripts["runner"].Part("absent", ["no-such-program"], 5),
        part(scripts, "slow", STUBBORN, tmp_path / "pids", limit=1.0),
        part(scripts, "last", "import sys; print(open(sys.argv[1]).read())", tmp_path / "out" / "run.json"),
    ]
    record = scripts["runner"].run(every, tmp_path / "out", said.append)
    ends = {name: entry["state"] for name, entry in record["parts"].items()}
    assert ends == {
        "good": "passed",
        "bad": "failed",
        "absent": "failed",
        "slow": "too slow",
        "last": "passed",
    }
    assert (record["parts"]["bad"]["code"], record["parts"]["bad"]["tail"]) == (3, ["why"])
    assert record["parts"]["absent"]["tail"] == ["no-such-program: No such file or directory"]
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == record
    kept = json.loads((tmp_path / "out" / "last.log").read_text())["parts"]
    assert list(kept) == ["good", "bad", "absent", "slow"], "the record is written after each part"
    assert 1 <= record["parts"]["slow"]["seconds"] < 10
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert _gone(pid), "a part that is too slow is ended with what it has started"
    assert "bad: failed after 0 s" in said
    assert "    why" in said


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split()[2]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True  # nobody has asked after it yet
        time.sleep(0.05)
    return False


def test_what_a_part_leaves_running_is_ended(scripts: Scripts, tmp_path: Path) -> None:
    leave = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid)"
    scripts["runner"].run([part(scripts, "leaves", leave)], tmp_path, lambda text: None)
    assert _gone(int((tmp_path / "leaves.log").read_text()))


def test_a_part_that_is_run_again_replaces_its_own_results(scripts: Scripts, tmp_path: Path) -> None:
    write = "import sys; open(sys.argv[1], 'w').write('{}')"
    files = [tmp_path / f"{name}.json" for name in ("one", "two")]
    parts = [part(scripts, file.stem, write, file) for file in files]
    scripts["runner"].run(parts, tmp_path, lambda text: None)
    again = scripts["runner"].run([part(scripts, "one", "raise SystemExit(1)")], tmp_path, lambda text: None)
    assert {name: entry["state"] for name, entry in again["parts"].items()} == {
        "one": "failed",
        "two": "passed",
    }
    assert [file.exists() for file in files] == [False, True]


def test_what_does_not_fit_into_the_time_is_left_out(scripts: Scripts, tmp_path: Path) -> None:
    said: list[str] = []
    parts = [part(scripts, "long", "", limit=50), part(scripts, "short", "", limit=10)]
    record = scripts["runner"].run(parts, tmp_path, said.append, seconds=20)
    assert list(record["parts"]) == ["short"]
    assert said[0] == "long: left out, 20 s are left and it may take 50 s"


def test_without_a_card_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    """PATH without nvidia-smi, as on machines without a driver."""
    command = [sys.executable, str(REPOSITORY / "bench" / "gpu" / "run.py")]
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == "make gpu: nvidia-smi finds no NVIDIA GPU, so nothing was measured\n"
    assert done.stdout.startswith("skipped, as there is no card: tests, macenko, data, train-64")


def test_no_test_marked_gpu_is_elsewhere(scripts: Scripts) -> None:
    folders = [REPOSITORY / folder for folder in scripts["parts"].TESTS.split()]
    own = Path(__file__)
    every = (path for path in (REPOSITORY / "tests").rglob("test_*.py") if path != own)
    marked = [path for path in every if "pytest.mark.gpu" in path.read_text()]
    assert len(marked) > 5
    assert [path for path in marked if not any(path.is_relative_to(each) for each in folders)] == []


@pytest.mark.parametrize("tiny", [False, True])
def test_every_command_of_a_part_names_a_script_and_options_that_it_has(
    scripts: Scripts, tmp_path: Path, tiny: bool
) -> None:
    place = scripts["parts"].Place(tmp_path / "out", tmp_path / "work", tiny)
    for one in scripts["parts"].parts(place):
        paths = [word for word in one.command if word.startswith(("bench/", "tests"))]
        assert paths
        assert all((REPOSITORY / path).exists() for path in paths), one.name
        if paths[0].endswith(".py"):
            source = (REPOSITORY / paths[0]).read_text() + (REPOSITORY / "bench" / "machine.py").read_text()
            options = [word for word in one.command if word.startswith("--")]
            assert [option for option in options if f'"{option}"' not in source] == [], one.name
