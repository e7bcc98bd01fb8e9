"""Macenko fit, apply and both together, beside torchstain and a plain copy of the bytes, interleaved.

python bench/bench_macenko.py [--rounds 15] [--batch 64] [--gpu-batch 32768] [--devices cpu gpu]
    [--data FOLDER] [--json [FILE]]

Tiles are cut from the slides (*.tif) in --data, or else H&E-like and painted here. torchstain, torch and
BLAS have one thread: on few or busy cores, BLAS's own threads slow torchstain several times over, which
would flatter us. torchstain is asked for the normalised image only (stains=False), so it
does no more than ours. "copy" moves the same bytes once: the floor of anything that reads and writes them.
Where there is a GPU, the same follows on it: batches many times the L2 cache, timed by events on it, and
torchstain's torch backend there. What was measured is saved after each size; a case that fails is
named, the others go on, and the exit code is 1.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cases import Calls, Timed, on_card, on_cpu
from machine import add_json, describe, save
from openslide import OpenSlide
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer
from torchstain.torch.normalizers import TorchMacenkoNormalizer

from pathprep import stain

Tiles = npt.NDArray[np.uint8]
SIZES = (224, 256, 512)
PEER_TILES = 2  # per call: they take tens of milliseconds each


def paint(count: int, size: int) -> Tiles:
    """Tiles of nuclei on stroma with glass between, as smooth as tissue is."""
    rng = np.random.default_rng(size)
    he = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])
    he /= np.linalg.norm(he, axis=0)
    tiles = np.empty((count, size, size, 3), np.uint8)
    for tile in tiles:
        coarse = rng.gamma([0.8, 2.0], [0.8, 0.5], (size // 8 + 1, size // 8 + 1, 2))
        amounts = coarse.repeat(8, axis=0).repeat(8, axis=1)[:size, :size] * rng.uniform(
            0.6, 1.2, (size, size, 2)
        )
        grey = 240 * np.exp(-amounts @ he.T) + rng.normal(0, 2, (size, size, 3))
        tile[:] = np.clip(grey, 0, 255)
    return tiles


def cut(folder: Path, count: int, size: int) -> Tiles:
    """Tiles from the middles of the folder's slides, in turn."""
    paths = sorted(folder.glob("*.tif"))
    if not paths:
        raise SystemExit(f"no .tif slides in {folder}; give another --data, or none for painted tiles")
    tiles = np.empty((count, size, size, 3), np.uint8)
    for i, tile in enumerate(tiles):
        with OpenSlide(paths[i % len(paths)]) as slide:
            width, height = slide.dimensions
            x, y = (width - size) // 2, (height - size) // 2
            tile[:] = np.asarray(slide.read_region((x, y), 0, (size, size)).convert("RGB"))
    return tiles


def numpy_peer(tiles: Tiles) -> list[Any]:
    peer = NumpyMacenkoNormalizer()
    return [peer.normalize(tile, stains=False) for tile in tiles]


def torch_peer(tiles: torch.Tensor) -> list[Any]:
    peer = TorchMacenkoNormalizer()
    peer.HERef, peer.maxCRef = (
        each.to(tiles.device) for each in (peer.HERef, peer.maxCRef)
    )  # it leaves them
    return [peer.normalize(tile, stains=False) for tile in tiles]


Cases = dict[str, tuple[Callable[[], object], int]]


def cpu_cases(tiles: Tiles) -> Cases:
    """Name -> (call, tiles per call)."""
    n, cores = len(tiles), len(os.sched_getaffinity(0))
    matrices = stain.matrix(stain.fit(tiles), stain.Target.default())
    out = np.empty_like(tiles)
    planes = torch.from_numpy(tiles[:PEER_TILES].transpose(0, 3, 1, 2).copy())

    def one_by_one() -> None:
        for tile in tiles:
            stain.normalize(tile[None], threads=1)

    return {
        "copy": (partial(np.copyto, out, tiles), n),
        "fit": (partial(stain.fit, tiles, threads=1), n),
        "apply": (partial(stain.apply, tiles, matrices, threads=1), n),
        "normalise": (partial(stain.normalize, tiles, threads=1), n),
        "normalise, tile by tile": (one_by_one, n),
        f"normalise, {cores} threads": (partial(stain.normalize, tiles, threads=cores), n),
        "torchstain numpy": (partial(numpy_peer, tiles[:PEER_TILES]), PEER_TILES),
        "torchstain torch": (partial(torch_peer, planes), PEER_TILES),
    }


def gpu_cases(tiles: Tiles, batch: int) -> Cases:
    """The same on the GPU: calls only queue their work."""
    import cupy

    # The same bytes at every size; with what the cases make, five times as much must fit on the card
    size, free = tiles[0].nbytes, cupy.cuda.runtime.memGetInfo()[0]
    n = min(batch * 256 * 256 * 3, free // 5) // size
    many = cupy.asarray(np.resize(tiles, (n, *tiles.shape[1:])))
    out = cupy.empty_like(many)
    matrices = stain.matrix(stain.fit(many), stain.Target.default())
    planes = torch.from_numpy(tiles[:PEER_TILES].transpose(0, 3, 1, 2).copy()).cuda()

    return {
        "copy": (partial(cupy.copyto, out, many), n),
        "fit": (partial(stain.fit, many), n),
        "apply": (partial(stain.apply, many, matrices), n),
        "normalise": (partial(stain.normalize, many), n),
        "torchstain torch": (partial(torch_peer, planes), PEER_TILES),
    }


def measure(
    device: str, size: int, found: Cases, timed: Callable[[Calls, int], Timed], rounds: int
) -> list[dict[str, Any]]:
    """A row per case: medians, and the ratios to the peer and to the copy; of one that failed, why."""
    seconds, failed = timed({name: call for name, (call, _) in found.items()}, rounds)
    medians = {name: statistics.median(each) / found[name][1] for name, each in seconds.items()}
    peer = medians.get("torchstain numpy" if device == "CPU" else "torchstain torch")
    copy = medians.get("copy")
    rows: list[dict[str, Any]] = [
        {
            "device": device,
            "size": size,
            "case": name,
            "ns": 1e9 * median,
            "best_ns": 1e9 * min(seconds[name]) / found[name][1],
            "tiles_s": 1 / median,
            "x_torchstain": None if peer is None else peer / median,
            "copies": None if copy is None else median / copy,
        }
        for name, median in medians.items()
    ]
    return rows + [
        {"device": device, "size": size, "case": name, "error": why} for name, why in failed.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64, help="tiles per call of ours")
    parser.add_argument("--gpu-batch", type=int, default=32768, help="tiles of 256 px per call on the GPU")
    parser.add_argument("--devices", nargs="+", choices=("cpu", "gpu"), default=("cpu", "gpu"))
    parser.add_argument("--data", type=Path, help="folder of slides to cut the tiles from")
    add_json(parser)
    options = parser.parse_args()

    machine = describe()
    torch.set_num_threads(1)
    kind = "painted" if options.data is None else "real"
    rows: list[dict[str, Any]] = []

    def add(device: str, size: int, made: Callable[[], Cases], timed: Callable[[Calls, int], Timed]) -> None:
        try:
            rows.extend(measure(device, size, made(), timed, options.rounds))
        except Exception as error:  # of the cases' making: the next size may go
            rows.append(
                {"device": device, "size": size, "case": "all", "error": f"{type(error).__name__}: {error}"}
            )
        save(options.json, f"bench_macenko-{kind}", {"rounds": options.rounds, "tiles": kind, "rows": rows})

    with threadpool_limits(1):
        for size in SIZES:
            count = options.batch
            tiles = paint(count, size) if options.data is None else cut(options.data, count, size)
            if "cpu" in options.devices:
                add("CPU", size, partial(cpu_cases, tiles), on_cpu)
            if "gpu" in options.devices and machine["gpus"]:
                add(machine["gpus"][0], size, partial(gpu_cases, tiles, options.gpu_batch), on_card)

    table = Table(title=f"Macenko on {machine['cpu']}, {machine['cores']} cores, {machine['date']}")
    for heading in ("device", "px", "case", "ns per tile", "tiles/s", "x torchstain", "x copy"):
        table.add_column(heading, justify="left" if heading in ("device", "case") else "right")
    for row in rows:
        if "error" in row:
            table.add_row(row["device"], str(row["size"]), row["case"], "failed")
            continue
        ratios = ("" if row[key] is None else f"{row[key]:.1f}" for key in ("x_torchstain", "copies"))
        figures = [f"{row['ns']:,.0f}", f"{row['tiles_s']:,.0f}", *ratios]
        last = row["case"] == "torchstain torch"
        table.add_row(row["device"], str(row["size"]), row["case"], *figures, end_section=last)
    Console(width=100).print(table)
    failed = [
        f"{row['device']}, {row['size']} px, {row['case']}: {row['error']}" for row in rows if "error" in row
    ]
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
