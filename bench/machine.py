"""What every benchmark shares: a description of the machine, interleaved timing, and the results file."""

import json
import os
import platform
import re
import subprocess
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pathprep.storage import atomic

PACKAGES = [
    "numpy",
    "numba",
    "torch",
    "torchvision",
    "timm",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "cucim-cu13",
    "cucim-cu12",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "openslide-python",
    "simplejpeg",
    "webdataset",
    "pillow",
    "scikit-image",
    "torchstain",
    "albumentations",
    "opencv-python-headless",
]
# What is told of a card -> what nvidia-smi calls it
CARD = {
    "name": "name",
    "driver": "driver_version",
    "memory": "memory.total",
    "clock": "clocks.max.sm",
    "clock_now": "clocks.sm",
    "memory_clock": "clocks.max.memory",
    "power": "power.limit",
}


def describe() -> dict[str, Any]:
    """CPU model, cores this process may use, memory in GB, GPUs, versions, date."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "gpus": [card["name"] for card in cards()],
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "date": date.today().isoformat(),
    }


def tag(machine: dict[str, Any]) -> str:
    """A short name of the machine for file names, such as ``amd-epyc-2c``."""
    parts = [machine["cpu"], *machine["gpus"][:1], f"{machine['cores']}c"]
    words = re.sub(r"\(.*?\)|\bcpu\b|@.*|processor", " ", " ".join(parts).lower())
    return "-".join(re.findall(r"[a-z0-9]+", words))


def interleave(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call: every case once per round, in turn, so that what else the machine does falls
    on all of them alike. Nothing is called before the clock runs: warm up what needs it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def add_json(parser: ArgumentParser) -> None:
    """The option that every benchmark has, for ``save``."""
    parser.add_argument(
        "--json", nargs="?", type=Path, const=Path(), help="write results; by default a file per machine"
    )


def save(path: Path | None, name: str, results: dict[str, Any]) -> None:
    """Write the results and the machine they were measured on as JSON, atomically; None: do not.

    The empty path stands for ``results/<name>-<machine>.json``: another machine's results stay as they are.
    """
    if path is None:
        return
    machine = describe()
    if path == Path():
        path = Path(__file__).parent / "results" / f"{name}-{tag(machine)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, (json.dumps({"machine": machine, **results}, indent=1) + "\n").encode())


@contextmanager
def saved(path: Path | None, name: str, results: dict[str, Any]) -> Iterator[None]:
    """``save`` at the end of the block, and when it fails: what ``results`` holds by then is not lost."""
    try:
        yield
    finally:
        save(path, name, results)


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def cards() -> list[dict[str, str]]:
    """Each NVIDIA GPU: name, driver, memory and clocks, as nvidia-smi has them; empty without a driver."""
    command = ["nvidia-smi", f"--query-gpu={','.join(CARD.values())}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):  # no driver: no GPU
        return []
    rows = (line.split(", ") for line in done.stdout.splitlines() if line.strip())
    return [dict(zip(CARD, map(str.strip, row), strict=True)) for row in rows]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
