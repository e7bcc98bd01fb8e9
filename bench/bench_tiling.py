"""Cutting tiles from a block with area resampling and figures, beside Pillow and a copy of the bytes.

python bench/bench_tiling.py [--rounds 15] [--devices cpu gpu] [--data SLIDE] [--json [FILE]]

A block of 2048 px is cut into tiles of 512 px stored at 256 (0.25 to 0.5 MPP), 448 at 224, and 224, 256 and
512 px as they are. Pillow crops and resizes with its box filter, which is the same area mean, and computes no
figures. One CPU thread. Where there is a GPU the same follows on it, on many blocks' worth of tiles, timed by
events on the card. What was measured is saved after each shape; a case that fails is named, the others go on,
and the exit code is 1.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_macenko import paint
from cases import Calls, Timed, on_card, on_cpu
from machine import add_json, describe, save
from openslide import OpenSlide
from PIL import Image
from rich.console import Console
from rich.table import Table

from pathprep.kernels import tiling_cpu, tiling_cuda

Pixels = npt.NDArray[np.uint8]
BLOCK = 2048
SHAPES = ((512, 256), (256, 256), (448, 224), (224, 224), (512, 512))  # side, stored
GPU_BLOCKS = 64  # in one: 805 MB, many times the L2 cache


def read(slide: Path | None) -> Pixels:
    """A block from the middle of a slide, or a painted one."""
    if slide is None:
        return paint(1, BLOCK)[0]
    with OpenSlide(slide) as opened:
        x, y = ((extent - BLOCK) // 2 for extent in opened.dimensions)
        return np.array(opened.read_region((x, y), 0, (BLOCK, BLOCK)).convert("RGB"))


def corners(height: int, side: int) -> npt.NDArray[np.int32]:
    """Origins of all whole tiles of a block of BLOCK columns."""
    x, y = np.meshgrid(*(np.arange(0, extent - side + 1, side) for extent in (BLOCK, height)))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)


def pillow(block: Pixels, origins: npt.NDArray[np.int32], side: int, stored: int) -> list[Pixels]:
    image = Image.fromarray(block)
    tiles = (image.crop((x, y, x + side, y + side)) for x, y in origins.tolist())
    return [np.asarray(tile.resize((stored, stored), Image.Resampling.BOX)) for tile in tiles]


def cpu_cases(block: Pixels, side: int, stored: int) -> Calls:
    origins, out = corners(BLOCK, side), np.empty_like(block)
    return {
        "copy of the block": partial(np.copyto, out, block),
        "cut": partial(tiling_cpu.cut, block, origins, side, stored),
        "Pillow": partial(pillow, block, origins, side, stored),
    }


def gpu_cases(block: Pixels, side: int, stored: int) -> Calls:
    import cupy

    tall = cupy.asarray(np.concatenate([block] * GPU_BLOCKS))
    origins, out = corners(len(tall), side), cupy.empty_like(tall)

    return {
        "copy of the block": partial(cupy.copyto, out, tall),
        "cut": partial(tiling_cuda.cut, tall, origins, side, stored),
    }


def measure(
    device: str,
    shape: tuple[int, int],
    calls: Calls,
    timed: Callable[[Calls, int], Timed],
    rounds: int,
    tiles: int,
) -> list[dict[str, Any]]:
    """A row per case: medians, and the ratio to the copy; of one that failed, why."""
    what = {"device": device, "side": shape[0], "stored": shape[1]}
    seconds, failed = timed(calls, rounds)
    medians = {case: statistics.median(times) / tiles for case, times in seconds.items()}
    copy = medians.get("copy of the block")
    rows: list[dict[str, Any]] = [
        {
            **what,
            "case": case,
            "ns": 1e9 * each,
            "tiles_s": 1 / each,
            "copies": None if copy is None else each / copy,
        }
        for case, each in medians.items()
    ]
    return rows + [{**what, "case": case, "error": why} for case, why in failed.items()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--devices", nargs="+", choices=("cpu", "gpu"), default=("cpu", "gpu"))
    parser.add_argument("--data", type=Path, help="a slide to take the block from")
    add_json(parser)
    options = parser.parse_args()
    machine, block = describe(), read(options.data)
    kind = "painted" if options.data is None else "real"
    rows: list[dict[str, Any]] = []

    def add(device: str, shape: tuple[int, int], made: Callable[[], Calls], blocks: int) -> None:
        tiles, timed = len(corners(blocks * BLOCK, shape[0])), on_cpu if device == "CPU" else on_card
        try:
            rows.extend(measure(device, shape, made(), timed, options.rounds, tiles))
        except Exception as error:  # of the cases' making: the next shape may go
            side, stored = shape
            why = f"{type(error).__name__}: {error}"
            rows.append({"device": device, "side": side, "stored": stored, "case": "all", "error": why})
        save(options.json, f"bench_tiling-{kind}", {"rounds": options.rounds, "block": kind, "rows": rows})

    for shape in SHAPES:
        if "cpu" in options.devices:
            add("CPU", shape, partial(cpu_cases, block, *shape), 1)
        if "gpu" in options.devices and machine["gpus"]:
            add(machine["gpus"][0], shape, partial(gpu_cases, block, *shape), GPU_BLOCKS)

    table = Table(title=f"Tiling on {machine['cpu']}, {machine['date']}")
    for heading in ("device", "px", "stored", "case", "ns per tile", "tiles/s", "x copy"):
        table.add_column(heading, justify="left" if heading in ("device", "case") else "right")
    for row in rows:
        where = (row["device"], str(row["side"]), str(row["stored"]), row["case"])
        if "error" in row:
            table.add_row(*where, "failed")
            continue
        ratio = "" if row["copies"] is None else f"{row['copies']:.1f}"
        table.add_row(*where, f"{row['ns']:,.0f}", f"{row['tiles_s']:,.0f}", ratio)
    Console(width=100).print(table)
    failed = [
        f"{row['device']}, {row['side']} px, {row['case']}: {row['error']}" for row in rows if "error" in row
    ]
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
