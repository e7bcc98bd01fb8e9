"""``python -m chaos.load``: many slides and one slide of many tiles: memory, descriptors, pace.

Each command runs as a user starts it. Its processes are looked at twice a second: proportional memory (Pss)
of all of them, open descriptors of each, and how far it has come.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from helpers.slides import tissue, write_tiff
from helpers.sparse import write_sparse

from bench.machine import add_json, save
from chaos.runs import REPOSITORY

EVERY_S = 0.5
PARTS = 5  # of the time, that are compared
TILE = 64  # side of the tiles that are cut
SIDE = 512  # of a small slide


@dataclass(frozen=True)
class Look:
    """At one moment: seconds since the start, bytes of all processes, most descriptors of one, how far."""

    seconds: float
    memory: int
    descriptors: int
    done: float


def family(parent: int) -> Iterator[int]:
    """A process and its descendants."""
    yield parent
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:  # it has just ended
        return
    for child in children:
        yield from family(int(child))


def memory(process: int) -> int:
    """Bytes that it has for itself, and its share of what it has with others."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def descriptors(process: int) -> int:
    """How many are open."""
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0


def watch(argv: list[str], progress: Callable[[], float]) -> dict[str, Any]:
    """Run a command and look at it until it ends.

    Raises:
        SystemExit: it fails.
    """
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    looks: list[Look] = []
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv], stdout=said, stderr=said, text=True, env=env
        )
        while process.poll() is None:
            all_of_it = [*family(process.pid)]
            seen = sum(map(memory, all_of_it)), max(map(descriptors, all_of_it))
            looks.append(Look(time.monotonic() - begin, *seen, progress()))
            time.sleep(EVERY_S)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(argv)}: {said.read()[-2000:]}")
    return summary(looks, time.monotonic() - begin)


def summary(looks: list[Look], seconds: float) -> dict[str, Any]:
    """Figures of a run, and of its parts: peaks, and the pace as a share of the mean."""
    working = [look for look in looks if 0 < look.done < 1] or looks
    parts = [working[len(working) * k // PARTS : len(working) * (k + 1) // PARTS] for k in range(PARTS)]
    pace = [
        (part[-1].done - part[0].done) / (part[-1].seconds - part[0].seconds)
        for part in parts
        if len(part) > 1
    ]
    mean = sum(pace) / len(pace) if pace else 0
    return {
        "seconds": round(seconds, 1),
        "peak_bytes": max(look.memory for look in looks),
        "descriptors": max(look.descriptors for look in looks),
        "peak_bytes_of_parts": [max((look.memory for look in part), default=0) for part in parts],
        "descriptors_of_parts": [max((look.descriptors for look in part), default=0) for part in parts],
        "pace_of_parts": [round(each / mean, 2) for each in pace] if mean else [],
    }


def many_slides(folder: Path, count: int) -> dict[str, Any]:
    """Shard, verify and report a dataset of so many small slides."""
    slides, dataset = folder / "slides", folder / "dataset"
    made = folder / "made"
    write_tiff(made, tissue(SIDE, SIDE, margin=TILE), tile=TILE * 2, levels=2)
    slides.mkdir()
    data = made.read_bytes()
    for number in range(count):
        # bytes behind the end, which readers pass over: equal files are one slide
        (slides / f"slide-{number:05d}.tif").write_bytes(data + number.to_bytes(8, "little"))
    markers = dataset / "slides"

    def done() -> float:
        return len([*markers.glob("*.json")]) / count if markers.is_dir() else 0.0

    shard = [
        "pathprep",
        "shard",
        str(slides),
        "--out",
        str(dataset),
        "--tile",
        str(TILE),
        "--workers",
        "2",
    ]
    found = {"shard": watch(shard, done)}
    if done() != 1:
        raise SystemExit(f"{len([*markers.glob('*.json')])} of {count} slides were made")
    found["shard again"] = watch(shard, lambda: 0.0)
    return {"slides": count, **found, **readers(dataset)}


def many_tiles(folder: Path, across: int) -> dict[str, Any]:
    """Shard, verify and report a slide of so many tiles in a row and in a column."""
    dataset = folder / "dataset"
    slide = write_sparse(folder / "slide.tif", across=across, tile=TILE)
    size = 0

    def done() -> float:
        """The tar's size against the largest that was seen; it ends at 1."""
        nonlocal size
        sizes = [path.stat().st_size for path in (dataset / "shards").glob(".tmp-*.tar")]
        size = max([size, *sizes])
        return size / (across * across * TAR_BYTES)

    shard = ["pathprep", "shard", str(slide), "--out", str(dataset), "--tile", str(TILE), "--workers", "1"]
    found = {"shard": watch(shard, done)}
    tars = [*(dataset / "shards").glob("*.tar")]
    tiles = len((dataset / "shards" / "slide.idx").read_text().splitlines()) if tars else 0
    return {
        "tiles": tiles,
        "tar_bytes": sum(path.stat().st_size for path in tars),
        **found,
        **readers(dataset),
    }


TAR_BYTES = 4096  # more than a small tile takes in a tar


def readers(dataset: Path) -> dict[str, Any]:
    """Commands that read a dataset."""
    return {name: watch(["pathprep", name, str(dataset)], lambda: 0.0) for name in ("verify", "report")}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", type=int, default=2000, help="small ones; also a tenth of them")
    parser.add_argument(
        "--across", type=int, default=1024, help="tiles in a row of one slide; also half of them"
    )
    parser.add_argument("--with", type=Path, dest="before", help="a result whose other part is taken over")
    parser.add_argument("--only", choices=["many_slides", "many_tiles"])
    add_json(parser)
    options = parser.parse_args()
    cases: dict[str, list[Callable[[Path], dict[str, Any]]]] = {
        "many_slides": [partial(many_slides, count=each) for each in (options.slides // 10, options.slides)],
        "many_tiles": [partial(many_tiles, across=each) for each in (options.across // 2, options.across)],
    }
    figures: dict[str, Any] = {} if options.before is None else json.loads(options.before.read_text())
    for name in [options.only] if options.only else [*cases]:
        figures[name] = []
        for case in cases[name]:
            with tempfile.TemporaryDirectory(prefix="load-") as folder:
                figures[name].append(case(Path(folder)))
                print(figures[name][-1], flush=True)
    save(options.json, "chaos_load", figures)


if __name__ == "__main__":
    main()
