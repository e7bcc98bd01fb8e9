"""The training step: images/s and MFU, against a plain eager PyTorch DINO step of the same model.

Ours is the step of `pathtrain pretrain`, with all that it checks and reports. The peer is written as
main_dino.py does it: views of one size through the backbone together, a loop over pairs of views in the
loss, gradients clipped in a loop, AdamW, and a loop for the teacher; in the same precision. Both take the
same random views, which are ready in memory, so only the step counts. A third case is ours fed by the
real loader, with its wait for data. Rounds are interleaved.

    python bench/bench_train.py                                        two CPU cores, three minutes
    python bench/bench_train.py --model vit_base_patch16_224 --large 224 --small 96 --batch 64 \\
        --out-dim 65536 --precision bfloat16 --steps 20 --compile      a card
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from machine import add_json, save
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from pathprep.dataset.reader import Dataset
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.base import Batch
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.training import compiling, flops, step
from pathtrain.training.optim import adamw

TOTAL = 1000  # steps that the schedules span


class Ready:
    """A batch of random views that lies in memory."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        sides = [recipe.views.globals.size] * recipe.views.globals.count
        sides += [recipe.views.locals.size] * recipe.views.locals.count
        self.views = [torch.randn(recipe.batch, 3, side, side, device=device) for side in sides]
        self.tiles, self.wait = np.arange(recipe.batch), 0.0


class Ours:
    """The project's step."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        torch.manual_seed(0)
        self.recipe, self.ranks = recipe, Ranks(0, 1, device)
        self.method = Dino(recipe, TOTAL, device)
        if compiling.wanted(recipe.compile, device):
            self.method.compile()
        optimizer = adamw(self.method.student, recipe.optim)
        self.stepper = step.Stepper(self.method, optimizer, recipe, self.ranks, TOTAL)
        self.done = 0
        self.queued: step.Queued | None = None

    def __call__(self, batch: Batch) -> None:
        queued = self.stepper.take(batch, self.done, stop=False)
        self.done += 1
        if self.queued is not None and not self.queued.read().taken:  # a step late, as the loop does
            raise RuntimeError("the loss is not finite")
        self.queued = queued


class Peer:
    """A DINO step as main_dino.py has it."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        torch.manual_seed(0)
        self.recipe, self.device, self.done = recipe, device, 0
        self.student = self._network(recipe, recipe.dino.drop_path).to(device)
        self.teacher = deepcopy(self.student).requires_grad_(False)
        for module in self.teacher.modules():
            if hasattr(module, "drop_prob"):
                module.drop_prob = 0.0
        self.center = torch.zeros(1, recipe.dino.head.out_dim, device=device)
        decayed = [p for n, p in self.student.named_parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for n, p in self.student.named_parameters() if p.requires_grad and p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.optim.lr)

    @staticmethod
    def _network(recipe: Recipe, drop_path: float) -> nn.ModuleList:
        kwargs = {"num_classes": 0, "dynamic_img_size": True, "drop_path_rate": drop_path}
        backbone = timm.create_model(recipe.model.name, **kwargs, **recipe.model.kwargs)
        head = recipe.dino.head
        width, hidden = backbone.num_features, head.hidden_dim
        mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, head.bottleneck_dim),
        )
        last = weight_norm(nn.Linear(head.bottleneck_dim, head.out_dim, bias=False))
        last.parametrizations.weight.original0.data.fill_(1).requires_grad_(False)  # type: ignore[union-attr,operator]
        return nn.ModuleList([backbone, mlp, last])

    @staticmethod
    def _forward(network: nn.ModuleList, views: list[Tensor]) -> Tensor:
        backbone, mlp, last = network
        counts = torch.unique_consecutive(torch.tensor([v.shape[-1] for v in views]), return_counts=True)[1]
        features, start = [], 0
        for count in counts.tolist():
            features.append(backbone(torch.cat(views[start : start + count])))
            start += count
        x: Tensor = last(functional.normalize(mlp(torch.cat(features)), dim=-1, p=2))
        return x

    def __call__(self, batch: Batch) -> float:
        dino, optim = self.recipe.dino, self.recipe.optim
        progress = 0.5 * (1 + math.cos(math.pi * self.done / TOTAL))
        for number, group in enumerate(self.optimizer.param_groups):
            group["lr"] = optim.lr * progress
            if number == 0:
                group["weight_decay"] = optim.weight_decay.end
        views, count = batch.views, len(batch.views)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            with torch.no_grad():
                teacher = self._forward(self.teacher, views[:2])
            student = self._forward(self.student, views)
            scores = (student.float() / dino.student_temp).chunk(count)
            targets = functional.softmax((teacher.float() - self.center) / dino.teacher_temp.end, dim=-1)
            loss, terms = torch.zeros((), device=self.device), 0
            for g, target in enumerate(targets.detach().chunk(2)):
                for v in range(count):
                    if v != g:
                        pair = torch.sum(-target * functional.log_softmax(scores[v], dim=-1), dim=-1)
                        loss, terms = loss + pair.mean(), terms + 1
            loss = loss / terms
        with torch.no_grad():
            mean = teacher.float().mean(dim=0, keepdim=True)
            self.center = self.center * dino.center_momentum + mean * (1 - dino.center_momentum)
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError("the peer's loss is not finite")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self.student.parameters():
            if parameter.grad is not None and optim.clip is not None:
                scale = optim.clip / (parameter.grad.norm(2) + 1e-6)
                if scale < 1:
                    parameter.grad.mul_(scale)
        self.optimizer.step()
        with torch.no_grad():
            for new, old in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
                old.mul_(dino.momentum.start).add_((1 - dino.momentum.start) * new.detach())
        self.done += 1
        return value


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
    pathprep = [str(Path(sys.executable).with_name("pathprep"))]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*pathprep, "synth", folder / "slides", "--slides", "1", "--size", "6144"], **quiet)
    subprocess.run(
        [*pathprep, "shard", folder / "slides", "--out", folder / "dataset", "--stain", "none"], **quiet
    )
    return folder / "dataset"


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--large", type=int, default=64, help="side of the global views")
    parser.add_argument("--small", type=int, default=32, help="side of the local views")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out-dim", type=int, default=4096)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=5, help="a case and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile as well")
    parser.add_argument("--dataset", type=Path, help="for the loader; without, one is drawn")
    add_json(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = settings(options)
    ready = Ready(recipe, device)
    ours = Ours(recipe, device)
    work = flops.count(ours.method, ours.method.split(ready.views, 1)[0], recipe.precision, device)
    steps: dict[str, tuple[Callable[[Batch], object], Callable[[], Batch]]] = {
        "ours": (ours, lambda: ready),
        "eager PyTorch, as main_dino.py": (Peer(recipe, device), lambda: ready),
    }
    if options.compile:
        steps["ours, compiled"] = (Ours(settings(options, compile_=True), device), lambda: ready)
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset(options.dataset or synthetic(Path(folder)))
        made, here = BatchOptions.of(recipe), Ranks(device=device)
        batches: Iterator[Batch] = iter(Loader(data, made, ranks=here, threads=options.threads))
        best = list(steps)[-1] if options.compile else "ours"
        steps[f"{best}, real loader"] = (steps[best][0], lambda: next(batches))
        rates: dict[str, list[float]] = {name: [] for name in steps}
        waits: list[float] = []
        for turn in range(-1, options.rounds):  # the first is to warm up
            for name, (take, fetch) in steps.items():
                since, waited = time.perf_counter(), 0.0
                for _ in range(options.steps):
                    batch = fetch()
                    waited += batch.wait
                    take(batch)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - since
                if turn >= 0:
                    rates[name].append(options.batch * options.steps / seconds)
                    if "loader" in name:
                        waits.append(waited / seconds)
    peak = flops.peak(device, recipe.precision)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    base = medians["eager PyTorch, as main_dino.py"]
    print(
        f"{options.model}, views 2 x {options.large} + 8 x {options.small} px, batch {options.batch}, "
        f"{options.precision}, {device.type}, {work / 1e9:.1f} GFLOP a tile"
    )
    for name, median in medians.items():
        used = f"MFU {median * work / peak:6.1%}" if peak else f"{median * work / 1e9:8.1f} GFLOP/s"
        print(f"  {name:34s} {median:8.1f} images/s  {median / base:5.2f} x eager  {used}")
    print(f"  waiting for data with the real loader: {statistics.median(waits):.1%}")
    about = {key: value for key, value in vars(options).items() if key not in ("json", "dataset")}
    found = {
        "images_s": rates,
        "medians": medians,
        "ratio_to_eager": {name: median / base for name, median in medians.items()},
        "mfu": {name: median * work / peak for name, median in medians.items()} if peak else None,
        "flops_a_tile": work,
        "data_wait": waits,
    }
    save(options.json, "bench_train", {**about, "device": device.type, **found})


if __name__ == "__main__":
    main()
