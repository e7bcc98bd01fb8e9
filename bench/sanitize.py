"""The kernels' tests under compute-sanitizer's four tools, on a GPU. One that fails does not stop the next.

    python bench/sanitize.py [--tools memcheck racecheck synccheck initcheck] [--limit 900] [--json [FILE]]

memcheck: reads and writes out of bounds; racecheck: races in shared memory; synccheck: barriers that not all
threads reach; initcheck: memory of the card that is read before it is written. compute-sanitizer comes with
the CUDA toolkit. Exit code 1 if a tool found something or did not get to its end.

CuPy's pool is off (tests/helpers/no_pool.py). Errors that the API reports are not counted: CuPy tries calls
that may fail, and handles it. Under the tools a kernel takes ten to several hundred times as long, so the
largest tiles and the drawn cases are left to plain `pytest -m gpu`, except under memcheck, the fastest.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from machine import add_json, describe, save
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Tests of large sums and of hundreds of drawn tiles
LONG = "adversarial or any_matrix or large_sums or large_tiles or more_equal_keys or two_sizes"


class Found(NamedTuple):
    """What one tool found: ``clean`` if it ran to its end and reported nothing."""

    tool: str
    clean: bool
    errors: int | None
    passed: int
    seconds: float
    said: str


def command(tool: str) -> list[str | Path]:
    """The command line of a tool over the kernels' tests."""
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "helpers.no_pool", "-p", "no:cacheprovider"]
    tests += ["tests/kernels", "-m", "gpu and not slow and not realdata"]
    if tool != "memcheck":
        tests += ["-k", f"not ({LONG})"]
    return ["compute-sanitizer", "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9", *tests]


def judge(tool: str, code: int, output: str, seconds: float) -> Found:
    """Read what a tool and pytest have printed."""
    summary = re.search(r"ERROR SUMMARY: (\d+)|RACECHECK SUMMARY: (\d+)", output)
    errors = int(summary[1] or summary[2]) if summary else None
    tests = re.search(r"(\d+) passed", output)
    passed = int(tests[1]) if tests else 0
    lines = [line for line in output.splitlines() if line.startswith("=========") or "FAILED" in line]
    clean = code == 0 and errors == 0 and passed > 0
    return Found(
        tool, clean, errors, passed, seconds, "" if clean else "\n".join(lines[:40] or [output[-2000:]])
    )


def check(tool: str, limit: float) -> Found:
    """Run one tool for at most so many seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command(tool), cwd=ROOT, env=environment, timeout=limit, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Found(tool, False, None, 0, limit, f"not at its end after {limit:.0f} s")
    return judge(tool, done.returncode, done.stdout, time.perf_counter() - start)


def main(words: Sequence[str] | None = None) -> int:
    """Run the tools and print what they found; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--limit", type=float, default=900, help="seconds for one tool")
    add_json(parser)
    options = parser.parse_args(words)
    if not describe()["gpus"]:  # every test would be skipped, and nothing found
        raise SystemExit("no NVIDIA GPU: nothing to check the kernels on")
    if shutil.which("compute-sanitizer") is None:
        raise SystemExit("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit")
    console, rows = Console(), []
    for tool in options.tools:
        found = check(tool, options.limit)
        console.print(f"{tool}: {'clean' if found.clean else found.said}", markup=False)
        rows.append(found)
        results: list[dict[str, Any]] = [row._asdict() for row in rows]
        save(options.json, "sanitize", {"rows": results})  # now: the next may be the last
    table = Table(title="The kernels under compute-sanitizer")
    for heading in ("tool", "result", "errors", "tests passed", "seconds"):
        table.add_column(heading)
    for row in rows:
        figures = ("?" if row.errors is None else str(row.errors), str(row.passed), f"{row.seconds:.0f}")
        table.add_row(row.tool, "clean" if row.clean else "NOT CLEAN", *figures)
    console.print(table)
    return int(not all(row.clean for row in rows))


if __name__ == "__main__":
    sys.exit(main())
