"""Cutting tiles from a block with area resampling and figures, beside Pillow and a copy of the bytes.

python bench/bench_tiling.py [--rounds 15] [--data SLIDE] [--json [FILE]]

A block of 2048 px is cut into tiles of 512 px stored at 256 (0.25 to 0.5 MPP), and of 256 px as they are.
Pillow crops and resizes with its box filter, which is the same area mean, and computes no figures. One CPU
thread. Where there is a GPU the same follows on it, on many blocks' worth of tiles, each call waited for.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_macenko import paint
from machine import add_json, describe, interleave, save
from openslide import OpenSlide
from PIL import Image
from rich.console import Console
from rich.table import Table

from pathprep.kernels import tiling_cpu, tiling_cuda

Pixels = npt.NDArray[np.uint8]
Cases = dict[str, Callable[[], object]]
BLOCK = 2048
SHAPES = ((512, 256), (256, 256))
GPU_BLOCKS = 64  # in one: 805 MB, many times the L2 cache


def read(slide: Path | None) -> Pixels:
    """A block from the middle of a slide, or a painted one."""
    if slide is None:
        return paint(1, BLOCK)[0]
    with OpenSlide(slide) as opened:
        x, y = ((extent - BLOCK) // 2 for extent in opened.dimensions)
        return np.array(opened.read_region((x, y), 0, (BLOCK, BLOCK)).convert("RGB"))


def corners(height: int, side: int) -> npt.NDArray[np.int32]:
    """Origins of all tiles of a block of BLOCK columns."""
    x, y = np.meshgrid(np.arange(0, BLOCK, side), np.arange(0, height, side))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)


def pillow(block: Pixels, origins: npt.NDArray[np.int32], side: int, stored: int) -> list[Pixels]:
    image = Image.fromarray(block)
    tiles = (image.crop((x, y, x + side, y + side)) for x, y in origins.tolist())
    return [np.asarray(tile.resize((stored, stored), Image.Resampling.BOX)) for tile in tiles]


def cpu_cases(block: Pixels, side: int, stored: int) -> Cases:
    origins, out = corners(BLOCK, side), np.empty_like(block)
    return {
        "copy of the block": partial(np.copyto, out, block),
        "cut": partial(tiling_cpu.cut, block, origins, side, stored),
        "Pillow": partial(pillow, block, origins, side, stored),
    }


def gpu_cases(block: Pixels, side: int, stored: int) -> Cases:
    import cupy

    tall = cupy.asarray(np.concatenate([block] * GPU_BLOCKS))
    origins, out = corners(len(tall), side), cupy.empty_like(tall)

    def waited(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            call()
            cupy.cuda.get_current_stream().synchronize()

        return run

    return {
        "copy of the block": waited(partial(cupy.copyto, out, tall)),
        "cut": waited(partial(tiling_cuda.cut, tall, origins, side, stored)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data", type=Path, help="a slide to take the block from")
    add_json(parser)
    options = parser.parse_args()
    machine, block = describe(), read(options.data)
    rows: list[dict[str, Any]] = []
    for side, stored in SHAPES:
        devices = {"CPU": (cpu_cases(block, side, stored), 1)}
        if machine["gpus"]:
            devices[machine["gpus"][0]] = (gpu_cases(block, side, stored), GPU_BLOCKS)
        for device, (cases, blocks) in devices.items():
            interleave(cases, 2)  # compiles, and touches the memory
            tiles = blocks * (BLOCK // side) ** 2
            seconds = interleave(cases, options.rounds)
            for case, times in seconds.items():
                each = statistics.median(times) / tiles
                floor = statistics.median(seconds["copy of the block"]) / tiles
                row = {"device": device, "side": side, "stored": stored, "case": case, "ns": 1e9 * each}
                rows.append({**row, "tiles_s": 1 / each, "copies": each / floor})

    table = Table(title=f"Tiling on {machine['cpu']}, {machine['date']}")
    for heading in ("device", "px", "stored", "case", "ns per tile", "tiles/s", "x copy"):
        table.add_column(heading, justify="left" if heading in ("device", "case") else "right")
    for row in rows:
        shape, figures = (
            (str(row["side"]), str(row["stored"])),
            (f"{row['ns']:,.0f}", f"{row['tiles_s']:,.0f}"),
        )
        table.add_row(row["device"], *shape, row["case"], *figures, f"{row['copies']:.1f}")
    Console(width=100).print(table)
    kind = "painted" if options.data is None else "real"
    save(options.json, f"bench_tiling-{kind}", {"rounds": options.rounds, "block": kind, "rows": rows})


if __name__ == "__main__":
    main()
