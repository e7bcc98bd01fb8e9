"""DINO views: this project's loader against webdataset + DataLoader with torchvision's transforms and with
albumentations', in tiles per second and in milliseconds of CPU a tile.

All read the same tiles and make the same ten views of each (2 of 224 px, 8 of 96 px; crop, flip, colour
jitter, greyscale, blur, solarise, normalise) with as many threads or worker processes. The others are written
as their documentation suggests (loader_peers.py); ratios are against the best of them, of CPU time and of
tiles/s. CPU time is of the process and its workers, of all they do: on a shared machine it says more than the
clock. Rounds are interleaved; each starts a loader, takes more batches than it can have prepared ahead, and
times the next ones.

Ours runs from indexed shards and from mixed ones (`pathprep mix`), with tiles as they are, normalised by
their stored fits (on a dataset made with `pathprep shard --stain fit`), and normalised by fits made on
loading; the other side, as is usual, with torchstain's numpy normaliser in the workers, which fits each tile
each time it is read. Where there is a GPU, ours decodes and works on it (--device cpu: not); the other side
stays on the CPU, or is left out (--ours).

    python bench/bench_loader.py [DATASET ...] [--ours] [--device cpu] [--json [FILE]]

Without a dataset it makes two from a synthetic slide, of 256 and 512 px tiles, with fits.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from loader_peers import ALBUMENTATIONS, kinds
from machine import add_json, saved

import pathprep
from pathprep.dataset.reader import Dataset
from pathprep.mixed.make import mix
from pathtrain.data.training_data import of
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe

OURS = "pathtrain"
WITH_STAIN = ["torchvision (PIL)", "albumentations (OpenCV)"]  # the faster of each
WARM = 5  # batches; DataLoader prepares 2 per worker ahead, ours 2


# stain -> the recipe's settings
STAINS = {
    "none": ["stain.mode=none", "stain.expect=any"],
    "stored fit": ["stain.mode=normalize"],
    "fit on loading": ["stain.mode=normalize", "stain.fit=load"],
}


def ours(folder: Path, recipe: Recipe, threads: int, device_id: int | None) -> Iterator[Any]:
    # in here: the others' workers import this file, and need no DALI
    from pathtrain.data.loader import BatchOptions, Loader
    from pathtrain.distributed.ranks import Ranks

    device = torch.device("cpu") if device_id is None else torch.device("cuda", device_id)
    loader = Loader(
        of(pathprep.open(folder)), BatchOptions.of(recipe), ranks=Ranks(device=device), threads=threads
    )
    try:
        for batch in loader:
            if device_id is not None:  # what has been queued is not yet done
                torch.cuda.synchronize(device_id)
            yield batch
    finally:
        loader.close()


def first(sample: tuple[Any, ...]) -> Any:
    return sample[0]


def theirs(dataset: Path, recipe: Recipe, threads: int, views: Callable[[Recipe], Any]) -> Iterator[Any]:
    tars = sorted(str(path) for path in (dataset / "shards").glob("*.tar"))
    tiles = (
        wds.WebDataset(tars, resampled=True, shardshuffle=False)
        .shuffle(1000)
        .to_tuple("jpg")
        .map_tuple(views(recipe))
        .map(first)
    )
    # forked workers would inherit the locks of the DALI threads of earlier rounds, and hang
    spawned = torch.utils.data.DataLoader(
        tiles, batch_size=recipe.batch, num_workers=threads, multiprocessing_context="spawn"
    )
    return iter(spawned)


def timed(start: Callable[[], Iterator[Any]], batches: int, size: int) -> tuple[float, float]:
    """Tiles per second, and CPU milliseconds a tile, of one freshly started loader in its steady state."""
    running = start()
    for _ in range(WARM):
        next(running)
    since, cpu = time.perf_counter(), cpu_seconds()
    for _ in range(batches):
        next(running)
    seconds, cpu = time.perf_counter() - since, cpu_seconds() - cpu
    if hasattr(running, "close"):
        running.close()
    return size * batches / seconds, 1e3 * cpu / (size * batches)


def cpu_seconds() -> float:
    """Of this process and of its workers, so far."""
    ticks = 0
    for child in multiprocessing.active_children():
        numbers = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(numbers[11]) + int(numbers[12])  # in user and system mode
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def synthetic(folder: Path) -> list[Path]:
    """Datasets of 256 and 512 px tiles from one synthetic slide of 8192 px at 0.5 MPP."""
    pathprep = [sys.executable, "-m", "pathprep"]
    run = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*pathprep, "synth", folder / "slides", "--slides", "1", "--size", "8192"], **run)
    made = []
    for mpp, side in ((0.5, 256), (1.0, 512)):
        made.append(folder / f"{side} px")
        shard = [*pathprep, "shard", folder / "slides", "--out", made[-1], "--mpp", str(mpp)]
        subprocess.run([*shard, "--stain", "fit"], **run)
    return made


def measure(
    dataset: Path, shuffled: Path, options: argparse.Namespace
) -> tuple[dict[str, dict[str, list[tuple[float, float]]]], dict[str, str]]:
    """``timed`` of each round by stain and loader, and for each stain the one whose others are compared.

    Args:
        shuffled: the dataset's mixed shards.
    """
    stains = dict(STAINS)
    if Dataset(dataset).params["stain"]["mode"] != "fit":
        del stains["stored fit"]
    device_id = 0 if options.device == "cuda" else None
    candidates: dict[tuple[str, str], Callable[[], Iterator[Any]]] = {}
    for stain, settings in stains.items():
        recipe = load("exaonepath1", [f"batch={options.batch}", *settings])
        for name, folder in (("indexed shards", dataset), ("mixed shards", shuffled)):
            candidates[stain, f"{OURS}, {name}"] = partial(ours, folder, recipe, options.threads, device_id)
        if stain == "stored fit" or options.ours:
            continue  # the other side has none: it is compared with that of fits on loading
        usual = " + torchstain" if stain != "none" else ""
        for kind, views in kinds().items():
            if usual and kind not in WITH_STAIN:
                continue  # torchstain is most of their time
            name = f"webdataset + {kind}{usual}"
            candidates[stain, name] = partial(theirs, dataset, recipe, options.threads, views)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {stain: {} for stain in stains}
    for _ in range(options.rounds):
        for (stain, name), start in candidates.items():
            found[stain].setdefault(name, []).append(timed(start, options.batches, options.batch))
    return found, {stain: "none" if stain == "none" else "fit on loading" for stain in stains}


def summary(
    found: dict[str, list[tuple[float, float]]], others: dict[str, list[tuple[float, float]]]
) -> dict[str, Any]:
    """Medians of loaders, and of ours the ratios to the best of the others, above 1 where ours is better.

    Without others there are no ratios.
    """

    def medians(of: dict[str, list[tuple[float, float]]], which: int) -> dict[str, float]:
        return {name: statistics.median(each[which] for each in rounds) for name, rounds in of.items()}

    rates, costs = medians(found, 0), medians(found, 1)
    rivals = [name for name in others if not name.startswith(OURS)]
    mine = [name for name in found if name.startswith(OURS)] if rivals else []
    fastest = max((medians(others, 0)[name] for name in rivals), default=0)
    cheapest = min((medians(others, 1)[name] for name in rivals), default=0)
    return {
        "medians": rates,
        "cpu_ms": costs,
        "ratios": {name: rates[name] / fastest for name in mine},
        "cpu_ratios": {name: cheapest / costs[name] for name in mine},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("datasets", nargs="*", type=Path)
    cores, there = len(os.sched_getaffinity(0)), "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--threads", type=int, default=cores, help="threads, and worker processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="tiles")
    parser.add_argument("--batches", type=int, default=8, help="timed per round")
    parser.add_argument("--device", choices=["cpu", "cuda"], default=there, help="of ours")
    parser.add_argument("--ours", action="store_true", help="alone")
    add_json(parser)
    options = parser.parse_args()
    # of the workers, which fill the cores already: torchstain's linear algebra would start threads in each
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks a server for a newer one
    if not options.ours and not any("albumentations" in kind for kind in kinds()):
        print(f"albumentations is not installed, so it is not compared: {ALBUMENTATIONS}")
    names = ("threads", "batch", "rounds", "batches", "device")
    about: dict[str, Any] = {name: getattr(options, name) for name in names}
    about |= {"others": [] if options.ours else list(kinds()), "results": []}
    with saved(options.json, "bench_loader", about), tempfile.TemporaryDirectory() as folder:
        for number, dataset in enumerate(options.datasets or synthetic(Path(folder))):
            shuffled = Path(folder) / f"mixed-{number}"
            mix([dataset], shuffled)
            found, compared = measure(dataset, shuffled, options)
            for stain, rounds in found.items():
                result = summary(rounds, found[compared[stain]])
                print(f"{dataset.name}, stain {stain}: 10 views a tile, {options.threads} threads or workers")
                for name, rate in result["medians"].items():
                    line = f"  {name:58s} {rate:7.1f} tiles/s {result['cpu_ms'][name]:7.2f} ms of CPU a tile"
                    if name in result["ratios"]:
                        by_cpu = result["cpu_ratios"][name]
                        line += f" {result['ratios'][name]:5.2f} x, {by_cpu:.2f} x the others' best"
                    print(line, flush=True)
                which = {"dataset": dataset.name, "stain": stain, "compared_with": compared[stain]}
                about["results"].append({**which, "rounds": rounds, **result})


if __name__ == "__main__":
    main()
