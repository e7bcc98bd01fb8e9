"""Training through a whole slide: memory against its number of tiles, and time against arithmetic.

    python bench/bench_slide_memory.py [--tiles 100 1000 10000 20000] [--limit-gb 2]
                                        [--json [FILE]]

One supervised step through three small stages, in a process of its own for each case:

    cached         the graph cut at the tiles' vectors, as pathtrain trains
    checkpointing  one graph, each block of stage 1 keeping its input alone (timm's grad checkpointing)
    plain          one graph that keeps everything

Memory is the most that tensors take at one time during the step, every allocation and release counted,
beyond weights and pixels; beside it the peak of the process's resident set, less what it was before, which
has the graph's own objects and the gaps of malloc too. Of the vectors (N + 1, D) one copy is taken off as
well: they must grow with the tiles, and their gradient takes their place. Growth is from 1,000 tiles on:
with fewer, a chunk or the regions' group is not full.
On a GPU, when there is one, both are the allocator's. A case whose memory, as far as the smaller ones tell,
would exceed the limit is left out. (Checkpointing a whole chunk from pixels to vectors at once, instead of
block by block, would be gradient caching by another name.)

A plain step costs 3 forward passes (the backward counts 2), cached 4. The bound is 4 times a measured forward
pass without a graph in the same chunks; steps and forward passes are timed in turn, and medians compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from machine import add_json, saved
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from pathtrain.data.layout import Layout
from pathtrain.methods.gradient_cache import cached_loss
from pathtrain.models.grid_vit import GridViT, region_vectors, slide_vector
from pathtrain.recipes.hierarchical import StageConfig

CASES = ("cached", "checkpointing", "plain")
PIXELS, DIM, CHUNK = 32, 96, 128
ROUNDS, TIMED = 5, 256
STAGE = StageConfig(dim=32, depth=1, heads=2)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Step:
    """One supervised step on a slide of ``tiles`` tiles."""

    def __init__(self, case: str, tiles: int) -> None:
        torch.manual_seed(0)
        sizes = {"img_size": PIXELS, "patch_size": 8, "embed_dim": DIM, "depth": 4, "num_heads": 3}
        self.stage1 = timm.create_model("vit_tiny_patch16_224", num_classes=0, **sizes).to(DEVICE).train()
        self.stage1.set_grad_checkpointing(case == "checkpointing")
        self.stage2, self.stage3 = GridViT(STAGE, DIM).to(DEVICE), GridViT(STAGE, STAGE.dim).to(DEVICE)
        self.head = nn.Linear(STAGE.dim, 2).to(DEVICE)
        across = int(np.ceil(np.sqrt(tiles)))
        cells = np.arange(tiles)
        self.layout = Layout.of(cells, cells % across, cells // across, side=16)
        shape = (tiles + 1, PIXELS, PIXELS, 3)
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8, pin_memory=DEVICE.type == "cuda")
        self.case = case

    def encode(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.stage1(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return found

    def loss_of(self, vectors: Tensor) -> Tensor:
        save = self.case == "cached"
        regions = region_vectors(self.stage2, vectors, self.layout, 1, DEVICE, save)
        scores = self.head(slide_vector(self.stage3, regions, self.layout, save))
        return nn.functional.cross_entropy(scores[None], torch.tensor([1], device=DEVICE))

    def step(self) -> None:
        """Forward and back."""
        if self.case == "cached":
            loss = cached_loss(self.encode, self.pixels, self.loss_of, CHUNK, DEVICE)
        else:
            parts = [self.encode(part.to(DEVICE)) for part in self.pixels.split(CHUNK)]
            loss = self.loss_of(torch.cat(parts))
        loss.backward()  # type: ignore[no-untyped-call]
        self.wait()

    def zero(self) -> None:
        """As before the first step."""
        for module in (self.stage1, self.stage2, self.stage3, self.head):
            module.zero_grad(set_to_none=True)

    @torch.no_grad()
    def forward(self) -> None:
        """Stage 1 alone, without a graph."""
        for part in self.pixels.split(CHUNK):
            self.encode(part.to(DEVICE))
        self.wait()

    @staticmethod
    def wait() -> None:
        """Until a GPU is done."""
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()


def resident(field: str) -> int:
    """Bytes of a field of /proc/self/status, such as VmHWM, the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"no {field} in /proc/self/status")


def live_peak(call: Callable[[], None]) -> int:
    """Bytes of the tensors that a call had at one time on the CPU, beyond those that were there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    assert profiled.profiler is not None
    assert profiled.profiler.kineto_results is not None
    waiting = profiled.profiler.kineto_results.experimental_event_tree()
    changes: list[tuple[int, int]] = []
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == _EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    changes.sort(key=lambda change: change[0])
    return max(accumulate(size for _, size in changes))


def measure(case: str, tiles: int) -> dict[str, Any]:
    """In a child: one step's peaks, after a small one that brings in what is loaded late."""
    torch.set_num_threads(1)
    Step(case, 2 * CHUNK).step()
    slide = Step(case, tiles)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        slide.step()
        live = peak = torch.cuda.max_memory_allocated() - before
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now the present
        before = resident("VmRSS")
        slide.step()
        peak = resident("VmHWM") - before
        slide.zero()
        live = live_peak(slide.step)
    found = {"live_bytes": live, "resident_bytes": peak, "pixel_bytes": slide.pixels.numel()}
    return found | {"vector_bytes": (tiles + 1) * DIM * 4}


def time_steps() -> dict[str, Any]:
    """In a child: seconds of a step and of a forward pass, in turn."""
    torch.set_num_threads(1)
    slide = Step("cached", TIMED)
    slide.step()
    steps: list[float] = []
    forwards: list[float] = []
    for _ in range(ROUNDS):
        for call, found in ((slide.forward, forwards), (slide.step, steps)):
            start = time.process_time() if DEVICE.type == "cpu" else time.perf_counter()
            call()
            found.append((time.process_time() if DEVICE.type == "cpu" else time.perf_counter()) - start)
    step, forward = statistics.median(steps), statistics.median(forwards)
    return {"tiles": TIMED, "step_s": step, "forward_s": forward, "of_bound": step / (4 * forward)}


def child(*arguments: str) -> dict[str, Any]:
    """Run this file with arguments; memory is given back to the system as soon as it is free."""
    quiet = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=os.environ | quiet, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def both(found: dict[str, Any], less: int = 0) -> str:
    """Megabytes of tensors, and of the resident set."""
    return f"{(found['live_bytes'] - less) / 1e6:,.1f} ({(found['resident_bytes'] - less) / 1e6:,.1f})"


def growth(cached: dict[str, Any]) -> dict[str, Any] | None:
    """Share by which memory less one copy of the vectors grows from 1,000 tiles, or the next number, on."""
    counts = [count for count in sorted(map(int, cached)) if count >= 1000]
    if len(counts) < 2:
        return None
    first, last = (cached[str(count)] for count in (counts[0], counts[-1]))
    shares = {
        name: (last[f"{name}_bytes"] - last["vector_bytes"])
        / (first[f"{name}_bytes"] - first["vector_bytes"])
        - 1
        for name in ("live", "resident")
    }
    return {"from": counts[0], "to": counts[-1], **shares}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiles", nargs="+", type=int, default=[100, 1000, 10_000, 20_000])
    parser.add_argument("--limit-gb", type=float, default=2.0, help="most that a case may take")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--time", action="store_true", help=argparse.SUPPRESS)
    add_json(parser)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], int(options.child[1]))))
        return
    if options.time:
        print(json.dumps(time_steps()))
        return
    memory: dict[str, dict[str, Any]] = {case: {} for case in CASES}
    results: dict[str, Any] = {"memory": memory}
    with saved(options.json, "bench_slide_memory", results):
        for case in CASES:
            a_tile = 0.0
            for tiles in sorted(options.tiles):
                if case != "cached" and a_tile * tiles > 1e9 * options.limit_gb:
                    continue
                memory[case][str(tiles)] = found = child("--child", case, str(tiles))
                a_tile = found["resident_bytes"] / tiles
        results |= {"growth": growth(memory["cached"]), "time": child("--time")}
    told(sorted(options.tiles), memory, results)


def told(counts: list[int], memory: dict[str, dict[str, Any]], results: dict[str, Any]) -> None:
    """Print it all."""
    table = Table(title="Memory of a step beyond weights and pixels, MB: tensors (resident set)")
    for heading in ("tiles", "pixels", "vectors", "cached", "cached less vectors", *CASES[1:]):
        table.add_column(heading, justify="right")
    for tiles in counts:
        own = memory["cached"][str(tiles)]
        others = [memory[case].get(str(tiles)) for case in CASES[1:]]
        table.add_row(
            f"{tiles:,}",
            *(f"{own[key] / 1e6:,.1f}" for key in ("pixel_bytes", "vector_bytes")),
            both(own),
            both(own, own["vector_bytes"]),
            *("left out" if other is None else both(other) for other in others),
        )
    console, timed, grown = Console(), results["time"], results["growth"]
    console.print(table)
    console.print(
        f"A step takes {timed['step_s']:.2f} s on {TIMED} tiles, a forward pass {timed['forward_s']:.2f} s: "
        f"{timed['of_bound']:.2f} of the bound of 4 forward passes"
    )
    if grown is not None:
        console.print(
            f"Cached, less the vectors, from {grown['from']:,} to {grown['to']:,} tiles: tensors "
            f"{grown['live']:+.2%}, resident set {grown['resident']:+.2%}"
        )


if __name__ == "__main__":
    main()
