"""The training step: images/s and MFU, against a plain eager PyTorch DINO step of the same model.

Ours is the step of `pathtrain pretrain`, with all that it checks and reports. The peer is written as
main_dino.py does it: views of one size through the backbone together, a loop over pairs of views in the
loss, gradients clipped in a loop, AdamW, and a loop for the teacher; another is of lightly's parts, as
lightly-train puts them together. All have the same precision and take the same random views, which are ready
in memory, so only the step counts. The last case is ours fed by the real loader, with its wait for data.
Rounds are interleaved.

    python bench/bench_train.py [--batch 64] [--dataset FOLDER] [--json [FILE]]

On a card ViT-B/16 at 224 and 96 px in bfloat16, compiled and not; else a tiny ViT at 64 and 32 px, three
minutes on two cores. A case that fails is told of, and the others are measured.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eager_dino import Peer
from lightly_dino import Lightly
from machine import add_json, saved
from our_step import OurStep

from pathprep.dataset.reader import Dataset
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.training_data import of
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.base import Batch
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.training import flops

TOTAL = 1000  # steps that the schedules span
PEER, LIGHTLY = "eager PyTorch, as main_dino.py", "lightly's parts, as lightly-train"


class Ready:
    """A batch of random views that lies in memory."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        sides = [recipe.views.globals.size] * recipe.views.globals.count
        sides += [recipe.views.locals.size] * recipe.views.locals.count
        self.views = [torch.randn(recipe.batch, 3, side, side, device=device) for side in sides]
        self.tiles, self.wait = np.arange(recipe.batch), 0.0


def settings(options: argparse.Namespace, compile_: bool = False) -> Recipe:
    """EXAONEPath 1.0's recipe at the given size."""
    chosen = {
        "model.name": options.model,
        "model.init": "random",
        "model.kwargs": "{}" if options.large == 224 else f"{{img_size: {options.large}}}",
        "views.globals.size": options.large,
        "views.locals.size": options.small,
        "dino.head.out_dim": options.out_dim,
        "batch": options.batch,
        "precision": options.precision,
        "optim.lr": 5e-4 * options.batch / 256,
        "optim.warmup_steps": 0,
        "stain.expect": "any",  # plain tiles will do: it is speed that is measured
        "steps": TOTAL,
        "compile": str(compile_).lower(),
    }
    return load("exaonepath1", [f"{key}={value}" for key, value in chosen.items()])


def synthetic(folder: Path) -> Path:
    """A dataset of 256 px tiles from one drawn slide."""
    pathprep = [sys.executable, "-m", "pathprep"]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*pathprep, "synth", folder / "slides", "--slides", "1", "--size", "6144"], **quiet)
    subprocess.run(
        [*pathprep, "shard", folder / "slides", "--out", folder / "dataset", "--stain", "none"], **quiet
    )
    return folder / "dataset"


Case = tuple[Callable[[Batch], object], Callable[[], Batch]]  # a step, and where its batch is from


def arguments() -> argparse.Namespace:
    """Sizes are those that matter on a card where there is one, else what a CPU does in minutes."""
    card = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224" if card else "vit_tiny_patch16_224")
    parser.add_argument("--large", type=int, default=224 if card else 64, help="side of the global views")
    parser.add_argument("--small", type=int, default=96 if card else 32, help="side of the local views")
    parser.add_argument("--batch", type=int, default=64 if card else 16)
    parser.add_argument("--out-dim", type=int, default=65536 if card else 4096)
    parser.add_argument(
        "--precision", default="bfloat16" if card else "float32", choices=["float32", "bfloat16"]
    )
    parser.add_argument("--steps", type=int, default=10 if card else 5, help="a case and round")
    parser.add_argument("--rounds", type=int, default=3 if card else 5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=card, help="ours with torch.compile too"
    )
    parser.add_argument("--dataset", type=Path, help="for the loader; without, one is drawn")
    add_json(parser)
    return parser.parse_args()


def timed(case: Case, steps: int, device: torch.device) -> tuple[float, float]:
    """Seconds of some steps, and of them those that were waited for data."""
    take, fetch = case
    since, waited = time.perf_counter(), 0.0
    for _ in range(steps):
        batch = fetch()
        waited += batch.wait
        take(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - since, waited


def measure(
    cases: dict[str, Case], options: argparse.Namespace, device: torch.device, found: dict[str, Any]
) -> None:
    """Fill in images/s and waiting, round by round; a case that fails takes part no more."""
    rates, waits, failed = found["images_s"], found["data_wait"], found["failed"]
    for turn in range(-1, options.rounds):  # the first is to warm up
        for name, case in cases.items():
            if name in failed:
                continue
            try:
                seconds, waited = timed(case, options.steps, device)
            except Exception as error:  # whatever it is: the other cases are not its
                failed[name] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
                continue
            if turn >= 0:
                rates.setdefault(name, []).append(options.batch * options.steps / seconds)
                if "loader" in name:
                    waits.append(waited / seconds)
        found["medians"] = {name: statistics.median(values) for name, values in rates.items()}


def told(found: dict[str, Any], options: argparse.Namespace) -> None:
    """Fill in what follows from the rates, and print all."""
    work, medians = found["flops_a_tile"], found["medians"]
    base, peak = medians.get(PEER), found["peak"]
    print(
        f"{options.model}, views 2 x {options.large} + 8 x {options.small} px, batch {options.batch}, "
        f"{options.precision}, {found['device']}, {work / 1e9:.1f} GFLOP a tile"
    )
    if base is not None:
        found["ratio_to_eager"] = {name: median / base for name, median in medians.items()}
    found["mfu"] = {name: median * work / peak for name, median in medians.items()} if peak else None
    for name, median in medians.items():
        used = f"MFU {median * work / peak:6.1%}" if peak else f"{median * work / 1e9:8.1f} GFLOP/s"
        ratio = "" if base is None else f"{median / base:5.2f} x eager"
        print(f"  {name:34s} {median:8.1f} images/s  {ratio}  {used}")
    if found["data_wait"]:
        waited = statistics.median(found["data_wait"])
        print(f"  waiting for data with the real loader: {waited:.1%}")


def main() -> None:
    """Run the comparison and print it."""
    options = arguments()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, Any] = {k: v for k, v in vars(options).items() if k not in ("json", "dataset")}
    found |= {"device": device.type, "images_s": {}, "medians": {}, "data_wait": [], "failed": {}}
    with saved(options.json, "bench_train", found), tempfile.TemporaryDirectory() as folder:
        recipe = settings(options)
        ready = Ready(recipe, device)
        ours = OurStep(Dino, recipe, device, TOTAL)
        part = ours.method.split(ready.views, 1)[0]
        found["flops_a_tile"] = flops.count(ours.method, part, recipe.precision, device)
        found["peak"] = flops.peak(device, recipe.precision)
        peer = Peer(recipe, device, TOTAL)
        lightly = Lightly(recipe, device, TOTAL)
        cases: dict[str, Case] = {
            "ours": (ours, lambda: ready),
            PEER: (peer, lambda: ready),
            LIGHTLY: (lightly, lambda: ready),
        }
        best = "ours"
        if options.compile:
            best = "ours, compiled"
            cases[best] = (OurStep(Dino, settings(options, compile_=True), device, TOTAL), lambda: ready)
        data = Dataset(options.dataset or synthetic(Path(folder)))
        loader = Loader(
            of(data), BatchOptions.of(recipe), ranks=Ranks(device=device), threads=options.threads
        )
        batches: Iterator[Batch] = iter(loader)
        cases[f"{best}, real loader"] = (cases[best][0], lambda: next(batches))
        measure(cases, options, device, found)
        told(found, options)
    if found["failed"]:
        raise SystemExit(f"failed: {found['failed']}")


if __name__ == "__main__":
    main()
