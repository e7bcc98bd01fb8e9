"""What one run of `pathprep shard` took: seconds a stage, memory, bytes."""

import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table


def account(command: Sequence[str | Path], dataset: Path) -> dict[str, Any]:
    """Run a command that shards into ``dataset``, and watch it.

    Returns:
        ``stage_seconds``: from the markers, summed over threads and slides (``total``: of the slides).
        ``peak_pss_bytes``: the largest sum, read five times a second, of the proportional set sizes of all
        its processes: a page that several share counts in parts.
        ``shard_bytes``: of the tars.
    """
    peak = 0
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_pss, _tree(process.pid))))
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode} of: {' '.join(map(str, command))}")
    stages: Counter[str] = Counter()
    for marker in (dataset / "slides").glob("*.json"):
        stages.update(json.loads(marker.read_bytes())["seconds"])
    size = sum(path.stat().st_size for path in (dataset / "shards").glob("*.tar"))
    return {"stage_seconds": dict(stages), "peak_pss_bytes": peak, "shard_bytes": size}


def table(accounts: dict[str, dict[str, Any]]) -> Table:
    """A column for each run."""
    found = Table(title="One run each: seconds a stage, summed over threads; memory and shards in MB")
    found.add_column("")
    for case in accounts:
        found.add_column(case, justify="right")
    stages = [taken["stage_seconds"] for taken in accounts.values()]
    for stage in sorted({name for taken in stages for name in taken}):
        found.add_row(stage, *(f"{taken.get(stage, 0):.2f}" for taken in stages))
    for key, heading in (("peak_pss_bytes", "memory (PSS)"), ("shard_bytes", "shards")):
        found.add_row(heading, *(f"{taken[key] / 1e6:,.1f}" for taken in accounts.values()))
    return found


def _tree(process: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield process
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))


def _pss(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0
