"""Macenko fit, apply and both together, beside torchstain and a plain copy of the bytes, interleaved.

python bench/bench_macenko.py [--rounds 15] [--batch 16] [--data FOLDER] [--json [FILE]]

Tiles are cut from the slides (*.tif) in --data, or else H&E-like and painted here. torchstain, torch and
BLAS have one thread: on few or busy cores, BLAS's own threads slow torchstain several times over, which
would flatter us. torchstain is asked for the normalised image only (stains=False), so it
does no more than ours. "copy" moves the same bytes once: the floor of anything that reads and writes them.
"""

import argparse
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import describe, interleave, save, tag
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


def cases(
    tiles: Tiles, threads: dict[int, ThreadPoolExecutor]
) -> dict[str, tuple[Callable[[], object], int]]:
    """Name -> (call, tiles per call)."""
    n = len(tiles)
    fits = stain.fit(tiles)
    target = stain.Target.default()
    matrices = stain.matrix(fits, target)
    out = np.empty_like(tiles)
    planes = torch.from_numpy(tiles[:PEER_TILES].transpose(0, 3, 1, 2).copy())
    found: dict[str, tuple[Callable[[], object], int]] = {
        "copy": (partial(np.copyto, out, tiles), n),
        "fit": (partial(stain.fit, tiles), n),
        "apply": (partial(stain.apply, tiles, matrices), n),
    }
    for count, pool in threads.items():
        parts = [tiles[i : i + 1] for i in range(n)]
        name = f"fit + normalise, {count} thread{'s' * (count > 1)}"
        found[name] = (lambda pool=pool, parts=parts: list(pool.map(stain.normalize, parts)), n)
    found["torchstain numpy"] = (partial(numpy_peer, tiles[:PEER_TILES]), PEER_TILES)
    found["torchstain torch"] = (partial(torch_peer, planes), PEER_TILES)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16, help="tiles per call of ours")
    parser.add_argument("--data", type=Path, help="folder of slides to cut the tiles from")
    parser.add_argument(
        "--json", nargs="?", type=Path, const=Path(), help="write results; default bench/results/"
    )
    options = parser.parse_args()

    machine = describe()
    torch.set_num_threads(1)
    rows = []
    with threadpool_limits(1), ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:
        for size in SIZES:
            tiles = (
                paint(options.batch, size) if options.data is None else cut(options.data, options.batch, size)
            )
            found = cases(tiles, {1: one, 2: two})
            calls = {name: call for name, (call, _) in found.items()}
            interleave(calls, 1)  # compiles, and touches the memory
            seconds = interleave(calls, options.rounds)
            peer = statistics.median(seconds["torchstain numpy"]) / PEER_TILES
            for name, (_, n) in found.items():
                median, best = statistics.median(seconds[name]) / n, min(seconds[name]) / n
                row = {"size": size, "case": name, "ms": 1e3 * median, "best_ms": 1e3 * best}
                rows.append({**row, "tiles_s": 1 / median, "vs_torchstain": peer / median})

    table = Table(title=f"Macenko on {machine['cpu']}, {machine['cores']} cores, {machine['date']}")
    for heading in ("px", "case", "ms per tile", "best ms", "tiles/s", "x torchstain numpy"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for row in rows:
        figures = (
            f"{row['ms']:.3f}",
            f"{row['best_ms']:.3f}",
            f"{row['tiles_s']:,.0f}",
            f"{row['vs_torchstain']:.1f}",
        )
        table.add_row(str(row["size"]), row["case"], *figures, end_section=row["case"] == "torchstain torch")
    Console(width=90).print(table)
    if options.json is not None:
        default = Path(__file__).parent / "results" / f"bench_macenko-{tag(machine)}.json"
        save(
            default if options.json == Path() else options.json,
            {"rounds": options.rounds, "tiles": "painted" if options.data is None else "real", "rows": rows},
        )


if __name__ == "__main__":
    main()
