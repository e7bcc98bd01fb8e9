"""The training step of DINOv2: images/s and CPU seconds, against lightly-train's of the same model and views.

Ours is the step of `pathtrain pretrain`, with all that it checks and reports; lightly-train's is its own
method ``dinov2`` without the trainer round it (lightly_dinov2.py says how to install it). Both have one head
for class tokens and patches, KoLeo, stochastic depth by subsets of the batch, and the same random views that
are ready in memory, so only the step counts. Steps are interleaved.

    PYTHONPATH=DIR python bench/bench_dinov2.py [--centring mean sinkhorn] [--json [FILE]]
    python bench/bench_dinov2.py --recipe midnight --batch 32      ours alone, as a recipe has it

On a card ViT-L/14 at 224 and 98 px in bfloat16, compiled too; else ViT-S/14 at 84 and 42 px, two minutes on
one core. On a machine that does something else at the time, CPU seconds say more than seconds.
"""

import argparse
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from lightly_dinov2 import Lightly
from machine import add_json, saved
from our_step import OurStep

from pathtrain.data import order
from pathtrain.data.block_masks import masks
from pathtrain.methods.base import Batch
from pathtrain.methods.dinov2 import Dinov2
from pathtrain.methods.dinov2_setup import MaskedBatch
from pathtrain.methods.masked import Masked
from pathtrain.recipes.dinov2 import Dinov2Recipe
from pathtrain.recipes.load import load
from pathtrain.training import flops

Cases = dict[str, Callable[[Batch], object]]
TOTAL = 1000  # steps that the schedules span
PEER = "lightly-train"
# What both are compared at
SAME = {"drop_path": 0.3, "drop_path_by": "subset", "centring": ["mean", "sinkhorn"]}
CARD = {"model": "vit_large_patch14_dinov2", "large": 224, "small": 98, "out_dim": 65536, **SAME}
CPU = {"model": "vit_small_patch14_dinov2", "large": 84, "small": 42, "out_dim": 4096, **SAME}


class Ready:
    """Random views that lie in memory, with the masks of one step after another."""

    def __init__(self, recipe: Dinov2Recipe, device: torch.device) -> None:
        self.recipe, self.done = recipe, 0
        large, small = recipe.views.globals, recipe.views.locals
        sides = [large.size] * large.count + [small.size] * small.count
        rng = torch.Generator().manual_seed(0)
        self.views = [torch.randn(recipe.batch, 3, side, side, generator=rng).to(device) for side in sides]

    def __call__(self, patch: int) -> MaskedBatch:
        recipe, self.done = self.recipe, self.done + 1
        ibot, large = recipe.ibot, recipe.views.globals
        grid = (large.size // patch, large.size // patch)
        positions = order.positions(self.done, recipe.batch)
        found = masks(positions, recipe.batch, large.count, grid, ibot.share, ibot.ratio, ibot.fill, 0)
        return MaskedBatch(Masked(self.views, torch.from_numpy(found)), np.arange(recipe.batch), 0.0)


def settings(options: argparse.Namespace, centring: str | None, compile_: bool = False) -> Dinov2Recipe:
    """A recipe at the given size; without one `dinov2-vits`, with what lightly-train has too."""
    chosen: dict[str, Any] = {
        "model.init": "random",
        "batch": options.batch,
        "precision": options.precision,
        "optim.warmup_steps": 0,
        "dino.freeze_last_layer_steps": 0,
        "sharding": "none",
        "micro_batch": "null",
        "steps": TOTAL,
        "compile": str(compile_).lower(),
        "probes": "[]",
    }
    given = {
        "model.name": options.model,
        "views.globals.size": options.large,
        "views.locals.size": options.small,
        "dino.head.out_dim": options.out_dim,
        "dino.drop_path": options.drop_path,
        "dino.drop_path_by": options.drop_path_by,
        "dino.centring": centring,
    }
    chosen |= {key: value for key, value in given.items() if value is not None}
    if options.recipe is None:
        chosen |= {
            "model.kwargs": f"{{img_size: {options.large}}}",
            "ibot.head": "null",
            "regulariser": "{kind: koleo, weight: 0.1, kappa: 1.0, group: null, rise: [0.0, 0.0]}",
        }
    else:
        chosen |= {"regulariser.group": "null"}
    recipe = load(options.recipe or "dinov2-vits", [f"{key}={value}" for key, value in chosen.items()])
    assert isinstance(recipe, Dinov2Recipe)
    return recipe


def arguments() -> argparse.Namespace:
    """Sizes are those that matter on a card where there is one, else what a CPU does in minutes."""
    card = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", help="ours alone, as this recipe has it; else both, at one size")
    parser.add_argument("--model")
    parser.add_argument("--large", type=int, help="side of the global views")
    parser.add_argument("--small", type=int, help="side of the local views")
    parser.add_argument("--batch", type=int, default=64 if card else 8)
    parser.add_argument("--out-dim", type=int)
    parser.add_argument("--drop-path", type=float)
    parser.add_argument("--drop-path-by", choices=["sample", "subset"])
    parser.add_argument("--centring", nargs="+", choices=["mean", "sinkhorn"])
    parser.add_argument(
        "--precision", default="bfloat16" if card else "float32", choices=["float32", "bfloat16"]
    )
    parser.add_argument("--steps", type=int, default=20 if card else 8, help="of a case")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=card, help="ours with torch.compile too"
    )
    add_json(parser)
    options = parser.parse_args()
    if options.recipe is None:
        usual = CARD if card else CPU
        for name, value in usual.items():
            if getattr(options, name) is None:
                setattr(options, name, value)
    return options


def timed(take: Callable[[Batch], object], batch: Batch, device: torch.device) -> tuple[float, float]:
    """Seconds of a step, and CPU seconds of all threads."""
    since, used = time.perf_counter(), time.process_time()
    take(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - since, time.process_time() - used


def measure(cases: Cases, recipe: Dinov2Recipe, steps: int, found: dict[str, Any]) -> None:
    """Fill in seconds, step by step; a case that fails takes part no more."""
    device = torch.device(found["device"])
    ready, patch = Ready(recipe, device), found["patch"]
    for turn in range(-2, steps):  # the first two are to warm up
        batch = ready(patch)
        for name, case in cases.items():
            if name in found["failed"]:
                continue
            try:
                seconds, used = timed(case, batch, device)
            except Exception as error:  # whatever it is: the other cases are not its
                found["failed"][name] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
                continue
            if turn >= 0:
                found["seconds"].setdefault(name, []).append(seconds)
                found["cpu_seconds"].setdefault(name, []).append(used)


def told(found: dict[str, Any], recipe: Dinov2Recipe) -> None:
    """Fill in what follows from the seconds, and print all."""
    views, dino = recipe.views, recipe.dino
    print(
        f"{recipe.model.name}, views {views.globals.count} x {views.globals.size} + {views.locals.count} x "
        f"{views.locals.size} px, batch {recipe.batch}, {recipe.precision}, drop path {dino.drop_path} by "
        f"{dino.drop_path_by}, {found['device']}, {found['flops_a_tile'] / 1e9:.1f} GFLOP a tile"
    )
    for name, seconds in found["seconds"].items():
        used = found["cpu_seconds"][name]
        rate = found["medians"][name] = recipe.batch / statistics.median(seconds)
        peak = found["peak"]
        mfu = f"  MFU {rate * found['flops_a_tile'] / peak:6.1%}" if peak else ""
        if peak and name != PEER:
            found["mfu"][name] = rate * found["flops_a_tile"] / peak
        peers = found["cpu_seconds" if found["device"] == "cpu" else "seconds"]
        base = peers.get(f"{PEER}, {name.rpartition(', ')[2]}")
        own = statistics.median(peers[name])
        ratio = f"  {own / statistics.median(base):5.2f} x {PEER}'s time" if base else ""
        if base:
            found["ratios"][name] = own / statistics.median(base)
        print(f"  {name:34s} {rate:8.2f} images/s  {statistics.median(used):7.2f} CPU s a step{ratio}{mfu}")


def sides(options: argparse.Namespace, device: torch.device, found: dict[str, Any]) -> Cases:
    """Ours and the peer, which take their steps in turn."""
    cases: Cases = {}
    for centring in options.centring:
        recipe = settings(options, centring)
        cases[f"ours, {centring}"] = OurStep(Dinov2, recipe, device, TOTAL)
        if options.compile:
            cases[f"ours, compiled, {centring}"] = OurStep(
                Dinov2, settings(options, centring, True), device, TOTAL
            )
        try:
            cases[f"{PEER}, {centring}"] = Lightly(recipe, device, TOTAL)
        except ImportError as error:
            print(f"{PEER} is left out, see bench/lightly_dinov2.py: {error}")
            found["failed"][PEER] = str(error)
    return cases


def groups(options: argparse.Namespace, device: torch.device, found: dict[str, Any]) -> Iterator[Cases]:
    """Cases that are in memory together: with a recipe one, as it may fill a card."""
    if options.recipe is None:
        yield sides(options, device, found)
        return
    for compile_ in (False, True) if options.compile else (False,):
        name = "ours, compiled" if compile_ else "ours"
        try:
            yield {name: OurStep(Dinov2, settings(options, None, compile_), device, TOTAL)}
        except torch.OutOfMemoryError as error:
            found["failed"][name] = f"{type(error).__name__}: {error}"
        if device.type == "cuda":
            torch.cuda.empty_cache()


def counted(recipe: Dinov2Recipe, device: torch.device, found: dict[str, Any]) -> None:
    """Fill in what a tile costs: of all tiles at once, since of one alone no branch is dropped."""
    method = Dinov2(recipe, TOTAL, device)
    embed: Any = method.student["backbone"].patch_embed
    found["patch"] = embed.patch_size[0]
    whole = Ready(recipe, device)(found["patch"]).views
    method.refresh()
    found["flops_a_tile"] = flops.count(method, whole, recipe.precision, device) / recipe.batch
    found["peak"] = flops.peak(device, recipe.precision)


def main() -> None:
    """Run the comparison and print it."""
    options = arguments()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, Any] = {k: v for k, v in vars(options).items() if k != "json"}
    found |= {"device": device.type, "seconds": {}, "cpu_seconds": {}, "failed": {}, "ratios": {}}
    found |= {"medians": {}, "mfu": {}}
    with saved(options.json, "bench_dinov2", found):
        recipe = settings(options, options.centring[0] if options.centring else None)
        counted(recipe, device, found)
        for cases in groups(options, device, found):
            measure(cases, recipe, options.steps, found)
            cases.clear()
        told(found, recipe)
    if any(name != PEER for name in found["failed"]):
        raise SystemExit(f"failed: {found['failed']}")


if __name__ == "__main__":
    main()
