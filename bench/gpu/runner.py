"""Runs parts one after another, each in a process of its own with a time limit, and keeps what they say.

A part that fails, or is too slow, does not stop the next one. After each the record is written, so that what
was measured by then is not lost, whatever happens to the machine. A record that is there is gone on with:
parts that are run again replace their own entries.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from machine import cards, describe

from pathprep.storage import atomic

PROJECT = Path(__file__).resolve().parents[2]
RECORD = "run.json"
GRACE = 10.0  # seconds that a process has after SIGINT, at which Python still runs what it has to finish
TAIL = 12  # lines of a log that the record keeps


@dataclass(frozen=True)
class Part:
    """A command of its own.

    Attributes:
        name: of its log, and of its results if it writes any.
        command: program and arguments.
        limit: seconds.
    """

    name: str
    command: Sequence[str]
    limit: float


def run(
    parts: Sequence[Part],
    out: Path,
    say: Callable[[str], None] = print,
    seconds: float | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Run the parts and return the record.

    Args:
        out: folder of the record, of a log for each part, and of what they write.
        say: told of each part.
        seconds: for all of them: a part whose limit does not fit into what is left is left out.
        folder: that they run in.
    """
    out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"parts": {}}
    with suppress(FileNotFoundError):
        record = json.loads((out / RECORD).read_text())
    record |= {"machine": describe(), "cards": cards()}
    begin = time.monotonic()
    for part in parts:
        left = None if seconds is None else seconds - (time.monotonic() - begin)
        if left is not None and left < part.limit:
            say(f"{part.name}: left out, {left:.0f} s are left and it may take {part.limit:.0f} s")
            continue
        say(f"{part.name}: at most {part.limit:.0f} s")
        (out / f"{part.name}.json").unlink(missing_ok=True)  # figures are of this time or none
        entry = _one(part, out / f"{part.name}.log", folder)
        record["parts"][part.name] = entry
        atomic.write_bytes(out / RECORD, (json.dumps(record, indent=1) + "\n").encode())
        say(f"{part.name}: {entry['state']} after {entry['seconds']:.0f} s")
        for line in entry["tail"][-3 if entry["state"] == "passed" else -15 :]:
            say(f"    {line}")
    return record


def _one(part: Part, log: Path, folder: Path | None) -> dict[str, Any]:
    words, start = list(part.command), time.monotonic()
    with log.open("wb") as file:
        state, code = _taken(words, part, file, folder)
    return {
        "state": state,
        "code": code,
        "seconds": round(time.monotonic() - start, 1),
        "limit": part.limit,
        "tail": _without_places(log).splitlines()[-TAIL:],
    }


def _without_places(log: Path) -> str:
    """A log's text, without this machine's folders; they are taken from the file too, which is published."""
    text = log.read_text(errors="replace")
    for place, name in ((str(PROJECT), "."), (tempfile.gettempdir(), "/tmp"), (str(Path.home()), "~")):
        text = text.replace(place, name)
    text = re.sub(r"/[^\s'\":]*/site-packages/", "site-packages/", text)
    atomic.write_bytes(log, text.encode())
    return text


def _taken(words: list[str], part: Part, log: IO[bytes], folder: Path | None) -> tuple[str, int | None]:
    """How a part ended: ``passed``, ``failed`` or ``too slow``, and its exit code."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        log.write(f"{words[0]}: {error.strerror}\n".encode())
        return "failed", None
    try:
        code = process.wait(part.limit)
    except subprocess.TimeoutExpired:
        return "too slow", None
    finally:
        _end(process)
    return ("passed" if code == 0 else "failed"), code


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a part: itself, if it is too slow, and whatever it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        patience = time.monotonic() + GRACE
        while time.monotonic() < patience:
            process.poll()  # a process that nobody asks after stays in its group
            os.killpg(process.pid, 0)  # until the group is empty
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
