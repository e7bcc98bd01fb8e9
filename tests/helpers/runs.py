"""Sharding runs as commands of their own, and what they left behind."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathprep.launchers.base import Progress
from pathprep.slides.find import SlideSource

COMMAND = "import sys; from pathprep.__main__ import main; sys.argv = ['pathprep', *sys.argv[1:]]; main()"


def start(*arguments: object, code: str = COMMAND) -> subprocess.Popen[bytes]:
    """`pathprep shard` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, "shard", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for_work(process: subprocess.Popen[bytes], root: Path) -> None:
    """Until a worker writes its first shard."""
    while not list(root.glob("shards/.tmp-*")) and process.poll() is None:
        time.sleep(0.002)


def contents(root: Path) -> dict[str, Any]:
    """Every file's bytes; of markers all but the times. Without the command, and Slurm's scripts and logs."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = str(path.relative_to(root))
        if name.startswith("slurm/") or name == "shard.yaml":
            continue
        found[name] = path.read_bytes()
        if name.startswith("slides/"):
            found[name] = {k: v for k, v in json.loads(found[name]).items() if k not in ("seconds", "seal")}
    return found


@dataclass(frozen=True)
class Slow:
    """A task on a file server that does not answer, or one that takes too long."""

    source: SlideSource
    error: int | None
    root: Path = Path()

    @property
    def path(self) -> Path:
        return self.source.path

    def work(self, progress: Progress) -> tuple[None, bool]:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error), str(self.source.path))
        time.sleep(60)
        return None, True
