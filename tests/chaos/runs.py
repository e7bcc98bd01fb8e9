"""Runs of commands, forked from a warm process, with the shim armed or a time to be killed at."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from chaos import shim
from chaos.shim import Arm

TIMEOUT_S = 300.0  # machines that others use too are slow
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Call:
    """A call that the shim counted: its number from 1, its kind, the path."""

    number: int
    kind: str
    path: str


@dataclass(frozen=True)
class Ended:
    """A run that is over.

    Attributes:
        code: exit code; negative: the signal. text: what it said. seconds: it took. stray: a process of it
            stayed. calls: that were counted, in their order. hung: it was stopped for its time.
        hit: the call that was killed or failed, if the run came to it.
    """

    code: int
    text: str
    seconds: float
    calls: Sequence[Call] = ()
    hit: Call | None = None
    hung: bool = False
    stray: bool = False

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


@dataclass(frozen=True)
class Run:
    """A command to run.

    Attributes:
        argv: program and arguments. arm: what the shim does. kill_after: seconds.
        learn: whether the warm process is to import what this run imports.
    """

    argv: Sequence[str]
    arm: Arm | None = None
    kill_after: float | None = None
    learn: bool = False


@dataclass
class Warm:
    """A warm process of one package, pathprep or pathtrain.

    Attributes:
        package: which. folder: for what runs say, and their temporary files.
    """

    package: str
    folder: Path
    _process: subprocess.Popen[str] | None = None
    _count: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> "Warm":
        self.folder.mkdir(parents=True, exist_ok=True)
        library = str(shim.build())
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
        env = {**os.environ, "LD_PRELOAD": library, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        # a thread a run: many runs at once are the load, and sums of floats keep their order
        env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        env |= {"COLUMNS": "200", "NO_COLOR": "1"}
        self._errors = (self.folder / "warm.txt").open("w")
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("warm.py"), self.package, library],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=env,
        )  # fmt: skip
        if self._answer() != "ready":
            raise RuntimeError(f"warm.py does not start: {(self.folder / 'warm.txt').read_text()[-2000:]}")
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._errors.close()

    def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, *runs: Run, timeout: float = TIMEOUT_S) -> list[Ended]:
        """Run commands side by side until all have ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as folder:
            places = [Path(folder) / str(number) for number in range(len(runs))]
            for place in places:
                (place / "tmp").mkdir(parents=True)
                (place / "counter").write_bytes(bytes(16))
            job = {
                "timeout": timeout,
                "trace": True,
                "runs": [_job(*each) for each in zip(runs, places, strict=True)],
            }
            print(json.dumps(job), file=self._process.stdin, flush=True)
            answer = self._answer()
            if not answer:
                raise RuntimeError(f"the warm process died: {(self.folder / 'warm.txt').read_text()[-2000:]}")
            return [_ended(*each) for each in zip(json.loads(answer), places, strict=True)]


def _job(run: Run, place: Path) -> dict[str, Any]:
    return {
        "argv": [*run.argv],
        "arm": None if run.arm is None else run.arm.as_dict(),
        "kill_after": run.kill_after,
        "said": str(place / "said.txt"),
        "counter": str(place / "counter"),
        "log": str(place / "log.txt"),
        "learn": run.learn,
        "learnt": str(place / "learnt"),
        "cwd": str(place / "tmp"),
        "env": {"TMPDIR": str(place / "tmp"), "HOME": str(place / "tmp")},
    }


def _ended(answer: dict[str, Any], place: Path) -> Ended:
    calls: list[Call] = []
    hit = None
    log = place / "log.txt"
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        word, number, kind, path = line.split(" ", 3)
        call = Call(int(number), kind, path)
        if word == "hit":
            hit = call
        else:
            calls.append(call)
    calls.sort(key=lambda call: call.number)
    said = place / "said.txt"  # none if it was killed before it began
    text = said.read_text(errors="replace") if said.exists() else ""
    return Ended(answer["code"], text, answer["seconds"], calls, hit, answer["hung"], answer["stray"])
