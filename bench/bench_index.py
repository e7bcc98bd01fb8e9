"""Opening a whole dataset and finding its tiles: the mapped index, beside reading every slide's table.

    python bench/bench_index.py [--tiles 285000000] [--slides 35000] [--json [FILE]]

At full scale the index is simulated: 35,000 marker files as sharding writes them, and columns from generated
slides, written by the module's own writer; the tables themselves would take a day to make. Processes of
their own then open it: cold (its files dropped from the page cache), warm, and two at once as the ranks
of one machine do. They look up tiles, regions, grid cells and slides at random.

The plain way reads each marker and each table and concatenates the columns. It is run on real tables of
--peer-slides slides of the same size, in turn with the index of the same tables. What either would take at
full scale is a multiplication, and labelled so.

Needs 40 bytes of disk per tile (12 GB) in --folder.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from machine import add_json, save
from rich.console import Console
from rich.table import Table
from simulated_dataset import (
    BUILD,
    COLUMNS,
    LOADER,
    simulate,
    tabulate,
)

from pathprep.dataset import index_cache
from pathprep.dataset.columns import Arrays
from pathprep.dataset.reader import Dataset


def memory() -> dict[str, float]:
    """MB: own (anonymous and written) pages; USS, which counts a mapped file's pages that no other process
    has mapped as well; and all that is mapped.
    """
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        found[name] = int(value.split()[0]) / 1024
    uss = found["Private_Clean"] + found["Private_Dirty"]
    return {"own": found["Private_Dirty"], "uss": uss, "pss": found["Pss"], "rss": found["Rss"]}


def timed(calls: int, draw: Callable[[], tuple[Any, ...]], look: Callable[..., object]) -> dict[str, float]:
    """Microseconds of a call: median and 99th percentile."""
    arguments = [draw() for _ in range(calls)]
    nanoseconds = np.empty(calls)
    clock = time.perf_counter_ns
    for number, these in enumerate(arguments):
        begin = clock()
        look(*these)
        nanoseconds[number] = clock() - begin
    return dict(zip(("median", "p99"), (np.percentile(nanoseconds, [50, 99]) / 1000).tolist(), strict=True))


def plain(root: Path) -> tuple[list[str], npt.NDArray[np.int64], Arrays]:
    """Every marker, every table, concatenated."""
    markers = {path.stem: json.loads(path.read_bytes()) for path in sorted((root / "slides").glob("*.json"))}
    names = [name for name, about in markers.items() if about["tiles"] and about["build_id"] == BUILD]
    tables = [pq.read_table(root / "index" / f"{name}.parquet", columns=LOADER) for name in names]
    starts = np.cumsum([0, *(table.num_rows for table in tables)], dtype=np.int64)
    table = pa.concat_tables(tables)
    return names, starts, {name: table[name].to_numpy() for name in LOADER}


def measure(root: Path, case: str, lookups: int, seed: int) -> None:
    """A child: opens, looks up, and tells; waits for a line before it measures memory and before it ends."""
    rng = np.random.default_rng(seed)
    imported = memory()
    begin = time.perf_counter()
    if case == "plain":
        slides, starts, held = plain(root)
    else:
        index = Dataset(root).tiles(COLUMNS)
        slides, starts, held = index.slides, index.starts, index.columns
    told: dict[str, Any] = {"open_s": time.perf_counter() - begin}
    told["memory"] = {"imported": imported, "opened": memory()}

    def tile(number: int) -> tuple[str, int, int, int]:
        """As the loader does it."""
        name = slides[int(np.searchsorted(starts, number, side="right")) - 1]
        return name, int(held["offset"][number]), int(held["length"][number]), int(held["crc32"][number])

    told["tile_us"] = timed(lookups, lambda: (int(rng.integers(starts[-1])),), tile)
    print(json.dumps(told), flush=True)
    sys.stdin.readline()
    more: dict[str, Any] = {"memory": memory()}
    if case != "plain":

        def some() -> str:
            return slides[int(rng.integers(len(slides)))]

        def region() -> tuple[str, int]:
            name = some()
            return name, int(rng.choice(index.region_ids(name)))

        def cell() -> tuple[str, int, int]:
            number = int(rng.integers(starts[-1]))
            return index.locate(number)[0], int(held["column"][number]), int(held["row"][number])

        more["slide_us"] = timed(lookups, lambda: (some(),), index.tiles_of)
        more["region_us"] = timed(lookups // 10, region, index.region)
        more["cell_us"] = timed(lookups // 10, cell, index.at)
        # the answers are right, not only fast
        for _ in range(100):
            name, number = region()
            at = index.tiles_of(name)
            wanted = at.start + np.flatnonzero(held["region"][at.start : at.stop] == number)
            assert np.array_equal(index.region(name, number), wanted)
    print(json.dumps(more), flush=True)
    sys.stdin.readline()


def run(root: Path, case: str, lookups: int, processes: int = 1) -> list[dict[str, Any]]:
    """Children that measure at the same time, and hold what they have mapped until all have measured."""
    running = []
    for seed in range(processes):
        command = [sys.executable, __file__, "--child", str(root), "--case", case, "--lookups", str(lookups)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([*command, "--seed", str(seed)], **pipes))
    told = [json.loads(child.stdout.readline()) for child in running]
    for child in running:
        child.stdin.write("\n")
        child.stdin.flush()
    for found, child in zip(told, running, strict=True):
        more = json.loads(child.stdout.readline())
        found["memory"]["looked_up"] = more.pop("memory")
        found |= more
    for child in running:
        child.communicate("\n")
        if child.returncode:
            raise SystemExit(f"{case}: a measuring process ended with {child.returncode}")
    return told


def drop(folder: Path) -> None:
    """The files out of the page cache, as after a restart of the machine."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare(folder: Path, tiles: int, slides: int, lookups: int, rounds: int) -> dict[str, Any]:
    """Real tables: both ways in turn, and the building of the index."""
    root = folder / "peer"
    tabulate(root, tiles, slides)
    found: dict[str, list[Any]] = {"build_s": [], "plain": [], "index": []}
    for _ in range(rounds):
        shutil.rmtree(root / index_cache.FOLDER, ignore_errors=True)
        begin = time.perf_counter()
        Dataset(root).tiles(LOADER)
        found["build_s"].append(time.perf_counter() - begin)
        Dataset(root).tiles(COLUMNS)
        for case in ("plain", "index"):
            found[case] += run(root, case, lookups)
    table_bytes = sum(path.stat().st_size for path in (root / "index").iterdir())
    rate = tiles / statistics.median(found["build_s"])
    return {"tiles": tiles, "slides": slides, "table_bytes": table_bytes, "build_tiles_s": rate, **found}


def middle(of: list[dict[str, Any]], *keys: str) -> float:
    """Median over processes of one figure; 0 where it was not measured."""
    values = []
    for found in of:
        value: Any = found
        for key in keys:
            value = value.get(key, {})
        values.append(value or 0.0)
    return statistics.median(values)


LINES = [
    ("open, s", "{:.3f}", ("open_s",)),
    ("own MB, opened", "{:,.0f}", ("memory", "opened", "own")),
    ("USS MB, opened", "{:,.0f}", ("memory", "opened", "uss")),
    ("own MB, tiles read", "{:,.0f}", ("memory", "looked_up", "own")),
    ("a random tile, us", "{:.1f}", ("tile_us", "median")),
    ("a region, us", "{:.1f}", ("region_us", "median")),
    ("a grid cell, us", "{:.1f}", ("cell_us", "median")),
    ("a slide, us", "{:.2f}", ("slide_us", "median")),
]


def show(full: dict[str, Any], peer: dict[str, Any]) -> None:
    """Print the figures: medians over processes, and of many calls within each."""
    factor = full["tiles"] / peer["tiles"]
    scales = [f"{of['tiles'] / 1e6:.4g}M tiles\n{of['slides']:,} slides" for of in (full, peer)]
    table = Table(title="All tiles of a dataset: opened and looked up", title_justify="left")
    heads = [f"index\n{scales[0]}", f"index\n{scales[1]}", f"plain\n{scales[1]}"]
    table.add_column("", no_wrap=True)
    for head in [*heads, f"plain x {factor:.3g}\nextra-\npolated"]:
        table.add_column(head, justify="right", no_wrap=True)
    for title, shape, keys in LINES:
        plain = middle(peer["plain"], *keys)
        fixed = middle(peer["plain"], "memory", "imported", keys[2]) if keys[0] == "memory" else 0.0
        larger = (plain - fixed) * factor + fixed
        table.add_row(
            title,
            shape.format(middle(full["warm"], *keys)),
            shape.format(middle(peer["index"], *keys)),
            shape.format(plain) if plain else "-",
            shape.format(larger) if plain and keys[0] != "tile_us" else "-",
        )
    console = Console()
    console.print(table)
    one, cold = full["warm"][0]["memory"]["looked_up"], full["cold"][0]
    uss = [found["memory"]["looked_up"]["uss"] for found in full["two"]]
    rate = peer["build_tiles_s"]
    cold_us, pages = cold["tile_us"], one["rss"] - one["own"]
    for text in (
        f"cold: open {cold['open_s']:.2f} s; a tile {cold_us['median']:.1f} us, p99 {cold_us['p99']:.0f}",
        f"mapped after the tiles: {pages:,.0f} MB of page cache; USS of one process {one['uss']:,.0f} MB, "
        f"of each of two {uss[0]:,.0f} and {uss[1]:,.0f}",
        f"building from real tables: {rate:,.0f} tiles/s; all in {full['tiles'] / rate:,.0f} s, extrapolated",
        f"index on disk: {full['bytes'] / 1e9:.1f} GB",
    ):
        console.print(text, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiles", type=int, default=285_000_000)
    parser.add_argument("--slides", type=int, default=35_000)
    parser.add_argument("--peer-slides", type=int, default=350)
    parser.add_argument("--lookups", type=int, default=100_000, help="random tiles")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the files; default: the system's temporary folder")
    add_json(parser)
    for name, kind in (("child", Path), ("case", str), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:  # the process of one measurement
        measure(options.child, options.case, options.lookups, options.seed)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        small = options.tiles * options.peer_slides // options.slides
        print(f"real tables: {small:,} tiles of {options.peer_slides:,} slides", flush=True)
        peer = compare(Path(folder), small, options.peer_slides, options.lookups, options.rounds)
        print(f"simulated index: {options.tiles:,} tiles of {options.slides:,} slides", flush=True)
        root = Path(folder) / "full"
        seconds = simulate(root, options.tiles, options.slides)
        size = sum(path.stat().st_size for path in (root / index_cache.FOLDER).rglob("*.*"))
        drop(root / index_cache.FOLDER)
        full = {
            "tiles": options.tiles,
            "slides": options.slides,
            "bytes": size,
            "written_s": seconds,
            "cold": run(root, "index", options.lookups),
            "warm": [one for _ in range(options.rounds) for one in run(root, "index", options.lookups)],
            "two": run(root, "index", options.lookups, processes=2),
        }
    save(
        options.json,
        "bench_index",
        {"lookups": options.lookups, "rounds": options.rounds, "full": full, "peer": peer},
    )
    show(full, peer)


if __name__ == "__main__":
    main()
