"""Tiles straight from slides (a survey) against the same slides' tiles from shards, and against wsistream.

All make the same ten views of each tile (exaonepath1's: 2 of 224 px, 8 of 96 px) with as many threads and
processes: ours from indexed shards, ours online, and wsistream in a DataLoader with torchvision's transforms
on PIL images. Tiles are of 256 px at the MPPs of --mpps, by Midnight's rules: 40 % in tissue, and --hsv of
the pixels in its HSV box. Shards hold the tiles of a grid at the same MPPs (resized, no stain fits), on which
no rule is tried again. Then tiles alone, without views: readers of ours, and wsistream.

CPU time is of the process and of its readers or workers, of all they do; the ratios of what a core gives are
of it. Rounds are interleaved; each starts anew, takes more batches than can have been prepared ahead, and
times the next ones.

    python bench/bench_online.py [SLIDES ...] [--mpps 0.25,0.5,1,2] [--hsv 0.6] [--ours] [--json [FILE]]

Without slides it draws two at 0.25 MPP. wsistream (with its Otsu detector, online_peers.py) is left out where
it or opencv is not installed, or with --ours; the script says how to get both.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_loader import timed
from loader_peers import OnPil
from machine import add_json, saved
from online_peers import WSISTREAM, Wsistream, is_there

import pathprep
from pathprep.slides import find
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe

SHARDS, ONLINE, PEER = "pathtrain, shards", "pathtrain, online", "wsistream + torchvision (PIL)"
TILES, PEER_TILES = "pathtrain, tiles alone", "wsistream, tiles alone"


def from_loader(open_data: Callable[[], Any], recipe: Recipe, threads: int) -> Iterator[Any]:
    """Ours, from whatever is trained on."""
    from pathtrain.data.loader import BatchOptions, Loader

    loader = Loader(open_data(), BatchOptions.of(recipe), threads=threads)
    try:
        yield from loader
    finally:
        loader.close()


def tiles_alone(survey: Path, recipe: Recipe, readers: int) -> Iterator[Any]:
    """Our readers without views: the pool alone, a batch ahead."""
    from pathtrain.data.online.pool import ReaderPool
    from pathtrain.data.online.survey_data import SurveyData
    from pathtrain.data.online.worker import Job

    source = SurveyData(survey, recipe).source(recipe.sampling)
    pool = ReaderPool(source.survey.root, source.survey.contents, source.rules(0), readers, 120)
    size, waiting = recipe.batch, []
    names, asked = source.choice.slides, source.choice.mpps

    def begin(start: int) -> None:
        positions = np.arange(start, start + size)
        slides, mpps = source.choice.draw(positions, np.zeros(size, np.int64), 0)
        pixels = np.empty((size, source.online.tile, source.online.tile, 3), np.uint8)
        jobs = zip(positions.tolist(), slides.tolist(), mpps.tolist(), pixels, strict=True)
        waiting.append([pool.submit(Job(p, 0, names[slide], asked[mpp]), out) for p, slide, mpp, out in jobs])

    try:
        begin(0)
        start = size
        while True:
            begin(start)
            start += size
            yield [future.result() for future in waiting.pop(0)]
    finally:
        pool.close()


def theirs(slides: list[Path], mpps: list[float], hsv: float, views: Any, batch: int, workers: int) -> Any:
    """wsistream in a DataLoader; spawned, since forked workers inherit locks of DALI's threads."""
    dataset = Wsistream(slides, mpps, hsv, views)
    return iter(
        torch.utils.data.DataLoader(
            dataset, batch_size=batch, num_workers=workers, multiprocessing_context="spawn"
        )
    )


def drawn(folder: Path) -> list[Path]:
    """Slides that are drawn at 0.25 MPP."""
    made = [
        sys.executable,
        "-m",
        "pathprep",
        "synth",
        folder,
        "--slides",
        "2",
        "--size",
        "4096",
        "--mpp",
        "0.25",
    ]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob("*.tif"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("slides", nargs="*", type=Path)
    parser.add_argument("--mpps", default="0.25,0.5,1,2", help="micrometres per pixel")
    parser.add_argument("--hsv", type=float, default=0.6, help="share of pixels; 0: any")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="tiles")
    parser.add_argument("--batches", type=int, default=6, help="timed per round")
    parser.add_argument("--ours", action="store_true", help="alone")
    add_json(parser)
    options = parser.parse_args()
    mpps = [float(part) for part in options.mpps.split(",")]
    if not options.ours and not is_there():
        print(f"wsistream is not installed, so it is not compared: {WSISTREAM}")
    names = ("mpps", "hsv", "threads", "batch", "rounds", "batches")
    about: dict[str, Any] = {name: getattr(options, name) for name in names}
    with saved(options.json, "bench_online", about), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        slides = options.slides or drawn(folder / "slides")
        about["slides"] = len(files := [each.path for each in find.find(list(slides))])
        rounds = measure(files, folder, mpps, options)
        about |= {"rounds": rounds, **told(rounds)}


def measure(
    slides: list[Path], folder: Path, mpps: list[float], options: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """``timed`` of each round, by what was measured."""
    from pathtrain.data.online.survey_data import SurveyData
    from pathtrain.data.training_data import of

    # as commands: their workers would import this script, each anew
    run: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "pathprep"]
    subprocess.run([*command, "survey", *slides, "--out", folder / "survey"], **run)
    shard = [*command, "shard", *slides, "--out", folder / "dataset", "--mpp", options.mpps, "--resize"]
    subprocess.run([*shard, "--stain", "none", "--no-forecast"], **run)
    settings = [
        f"batch={options.batch}",
        "stain={mode: none}",
        f"online.hsv={options.hsv}",
        f"online.readers={options.threads}",
        f"sampling.mpps={{{', '.join(f'{mpp}: 1' for mpp in mpps)}}}",
    ]
    recipe = load("exaonepath1", settings)
    plain = load("exaonepath1", settings[:2])
    shards = partial(from_loader, lambda: of(pathprep.open(folder / "dataset")), plain, options.threads)
    online = partial(from_loader, lambda: SurveyData(folder / "survey", recipe), recipe, options.threads)
    alone = partial(tiles_alone, folder / "survey", recipe, options.threads)
    candidates: dict[str, Callable[[], Iterator[Any]]] = {SHARDS: shards, ONLINE: online, TILES: alone}
    if is_there() and not options.ours:
        given = slides, mpps, options.hsv
        how = options.batch, options.threads
        candidates[PEER] = partial(theirs, *given, OnPil(plain).views, *how)
        candidates[PEER_TILES] = partial(theirs, *given, None, *how)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for name, start in candidates.items():
            found.setdefault(name, []).append(timed(start, options.batches, options.batch))
    return found


def told(rounds: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians, and ratios of what a core gives; printed too."""
    rates = {name: statistics.median(each[0] for each in found) for name, found in rounds.items()}
    costs = {name: statistics.median(each[1] for each in found) for name, found in rounds.items()}
    for name in rates:
        print(f"  {name:32s} {rates[name]:7.1f} tiles/s {costs[name]:7.2f} ms of CPU a tile")
    pairs = ((ONLINE, SHARDS), (ONLINE, PEER), (TILES, PEER_TILES))
    ratios = {f"{mine} / {other}": costs[other] / costs[mine] for mine, other in pairs if other in costs}
    for name, ratio in ratios.items():
        print(f"  {name}: {ratio:.2f} of its tiles per core")
    return {"medians": rates, "cpu_ms": costs, "per_core": ratios}


if __name__ == "__main__":
    main()
