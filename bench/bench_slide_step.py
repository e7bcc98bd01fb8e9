"""A step through a whole slide: EXAONE Path 2.0's three stages, trained end to end, time and peak memory.

The step is that of `pathtrain pretrain`, optimiser and all that it checks included, on random pixels that lie
in memory (pinned, as the recipe keeps them); what is read and decoded for the next slide meanwhile is not in
it. Peak memory is the card's, of weights, optimiser and everything. On a CPU a small slide of small tiles.

    python bench/bench_slide_step.py [--tiles 10000] [--steps 3] [--json [FILE]]
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fixed_source import Fixed, FixedSource
from machine import add_json, saved

from pathtrain.data.layout import Layout
from pathtrain.data.slide_labels import LabelTask, SlideLabels
from pathtrain.data.work import Slide, Work
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.hierarchical import Hierarchical
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.training.loop import Loop

WARM = 2  # steps: memory is taken, and kernels are chosen
CARD = torch.cuda.is_available()
LABELS = SlideLabels(
    Path("none"), (LabelTask("organ", ("colon", "lung")),), ("a",), np.zeros((1, 1), np.int64), ("train",)
)


def total(options: argparse.Namespace) -> int:
    """Steps; the last one ends with a checkpoint and is not timed."""
    return int(WARM + options.steps + 1)


def recipe(options: argparse.Namespace) -> HierarchicalRecipe:
    """exaonepath2's second phase with slides alone, from random weights."""
    small = {"dim": 32, "depth": 1, "heads": 2}
    head = {"out_dim": 64, "hidden_dim": 32, "bottleneck_dim": 16, "layers": 2}
    chunk = "null" if options.chunk is None else options.chunk
    phase = (
        f"{{name: slides, steps: {total(options)}, alternate: in_turn, "
        f"slide: {{weight: 1.0, batch: 1, side: 16, class_weights: none, pixels: {options.pixels}, "
        f"chunk: {chunk}}}}}"
    )
    settings = [
        f"hierarchy.phases=[{phase}]",
        f"hierarchy.tile={options.side}",
        f"model.name={options.model}",
        f"model.kwargs={{img_size: {options.side}}}",
        "model.init=random",
        f"precision={options.precision}",
        "optim.warmup_steps=0",
        "checkpoint.every=1000000",
        "checkpoint.milestones=null",
        "log_every=1000000",
        "warn_after=0",
    ]
    if not CARD:
        settings += [f"hierarchy.stage{n}.{key}={value}" for n in (2, 3) for key, value in small.items()]
        settings += [
            f"{of}.{key}={value}"
            for of in ("hierarchy.region_head", "dino.head")
            for key, value in head.items()
        ]
    found = load("exaonepath2", settings)
    assert isinstance(found, HierarchicalRecipe)
    return found


def slide(options: argparse.Namespace, device: torch.device) -> Slide:
    """A square of tiles in random colours."""
    across = int(np.ceil(np.sqrt(options.tiles)))
    cells = np.arange(options.tiles)
    where = device if options.pixels == "device" else torch.device("cpu")
    pinned = device.type == "cuda" and where.type == "cpu"
    shape = (options.tiles + 1, options.side, options.side, 3)
    pixels = torch.empty(shape, dtype=torch.uint8, device=where, pin_memory=pinned)
    noise = torch.randint(0, 256, (min(512, len(pixels)), *shape[1:]), dtype=torch.uint8)
    for part in pixels.split(512):
        part.copy_(noise[: len(part)])
    layout = Layout.of(cells, cells % across, cells // across, side=16)
    return Slide(pixels, layout, torch.zeros(1, dtype=torch.int64))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiles", type=int, default=10_000 if CARD else 64)
    parser.add_argument("--side", type=int, default=256 if CARD else 32, help="of a tile, pixels")
    parser.add_argument("--model", default="vit_base_patch16_224" if CARD else "vit_tiny_patch16_224")
    parser.add_argument("--precision", default="bfloat16" if CARD else "float32")
    parser.add_argument("--pixels", choices=["host", "device"], default="host")
    parser.add_argument("--chunk", type=int, help="tiles at a time; default: what memory holds")
    parser.add_argument("--steps", type=int, default=3, help="that are timed")
    add_json(parser)
    options = parser.parse_args()
    device = torch.device("cuda", 0) if CARD else torch.device("cpu")
    results: dict[str, Any] = {key: value for key, value in vars(options).items() if key != "json"}
    results["device"] = torch.cuda.get_device_name(device) if CARD else "cpu"
    with saved(options.json, "bench_slide_step", results), tempfile.TemporaryDirectory() as folder:
        made = recipe(options)
        torch.manual_seed(0)
        method = Hierarchical(made, total(options), device, labels=LABELS)
        loop = Loop(made, method, Path(folder), total(options), "bench", Ranks(device=device))
        work = Work(slides=[slide(options, device)])
        source = FixedSource(Fixed(work, np.zeros(1, np.int64)), device)
        if CARD:
            torch.cuda.reset_peak_memory_stats(device)
        loop.train(lambda start: source)
        if CARD:
            results["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        times = np.diff(source.at)[WARM:].tolist()
        results |= {"seconds": times, "median": statistics.median(times)}
        peak = f", peak {results['peak_gb']:.1f} GB" if CARD else ""
        print(
            f"{options.model}, {options.tiles:,} tiles of {options.side} px, {options.precision}, "
            f"{results['device']}: {results['median']:.2f} s a step{peak}"
        )


if __name__ == "__main__":
    main()
