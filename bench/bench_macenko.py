"""Macenko fit, apply and both together, beside torchstain and a plain copy of the bytes, interleaved.

python bench/bench_macenko.py [--rounds 15] [--batch 64] [--gpu-batch 4096] [--data FOLDER] [--json [FILE]]

Tiles are cut from the slides (*.tif) in --data, or else H&E-like and painted here. torchstain, torch and
BLAS have one thread: on few or busy cores, BLAS's own threads slow torchstain several times over, which
would flatter us. torchstain is asked for the normalised image only (stains=False), so it
does no more than ours. "copy" moves the same bytes once: the floor of anything that reads and writes them.
Where there is a GPU, the same follows on it: batches many times the L2 cache, each call waited for, and
torchstain's torch backend on the same card.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import add_json, describe, interleave, save
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
    """The same on the GPU; every call waits for it."""
    import cupy

    n = batch * 256 * 256 // (tiles.shape[1] * tiles.shape[2])  # the same bytes at every size
    many = cupy.asarray(np.resize(tiles, (n, *tiles.shape[1:])))
    out = cupy.empty_like(many)
    matrices = stain.matrix(stain.fit(many), stain.Target.default())
    planes = torch.from_numpy(tiles[:PEER_TILES].transpose(0, 3, 1, 2).copy()).cuda()

    def waited(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            call()
            cupy.cuda.get_current_stream().synchronize()
            torch.cuda.synchronize()

        return run

    found: Cases = {
        "copy": (partial(cupy.copyto, out, many), n),
        "fit": (partial(stain.fit, many), n),
        "apply": (partial(stain.apply, many, matrices), n),
        "normalise": (partial(stain.normalize, many), n),
        "torchstain torch": (partial(torch_peer, planes), PEER_TILES),
    }
    return {name: (waited(call), count) for name, (call, count) in found.items()}


def measure(device: str, size: int, found: Cases, rounds: int) -> list[dict[str, Any]]:
    """A row per case: medians, and the ratios to the peer and to the copy."""
    calls = {name: call for name, (call, _) in found.items()}
    interleave(calls, 2)  # compiles, and touches the memory
    seconds = interleave(calls, rounds)
    medians = {name: statistics.median(seconds[name]) / count for name, (_, count) in found.items()}
    peer = medians["torchstain numpy" if device == "CPU" else "torchstain torch"]
    return [
        {
            "device": device,
            "size": size,
            "case": name,
            "ns": 1e9 * median,
            "best_ns": 1e9 * min(seconds[name]) / found[name][1],
            "tiles_s": 1 / median,
            "x_torchstain": peer / median,
            "copies": median / medians["copy"],
        }
        for name, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64, help="tiles per call of ours")
    parser.add_argument("--gpu-batch", type=int, default=4096, help="tiles of 256 px per call on the GPU")
    parser.add_argument("--data", type=Path, help="folder of slides to cut the tiles from")
    add_json(parser)
    options = parser.parse_args()

    machine = describe()
    torch.set_num_threads(1)
    rows = []
    with threadpool_limits(1):
        for size in SIZES:
            count = options.batch
            tiles = paint(count, size) if options.data is None else cut(options.data, count, size)
            rows += measure("CPU", size, cpu_cases(tiles), options.rounds)
            if machine["gpus"]:
                rows += measure(machine["gpus"][0], size, gpu_cases(tiles, options.gpu_batch), options.rounds)

    table = Table(title=f"Macenko on {machine['cpu']}, {machine['cores']} cores, {machine['date']}")
    for heading in ("device", "px", "case", "ns per tile", "tiles/s", "x torchstain", "x copy"):
        table.add_column(heading, justify="left" if heading in ("device", "case") else "right")
    for row in rows:
        figures = [f"{row['ns']:,.0f}", f"{row['tiles_s']:,.0f}", f"{row['x_torchstain']:.1f}"]
        last = row["case"] == "torchstain torch"
        table.add_row(
            row["device"], str(row["size"]), row["case"], *figures, f"{row['copies']:.1f}", end_section=last
        )
    Console(width=100).print(table)
    kind = "painted" if options.data is None else "real"
    save(options.json, f"bench_macenko-{kind}", {"rounds": options.rounds, "tiles": kind, "rows": rows})


if __name__ == "__main__":
    main()
