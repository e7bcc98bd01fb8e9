"""The training loop: one process, plain steps, killed and resumed to the bit.

A run's place is the number of finished steps. Schedules, sample order and augmentations follow from it;
weights, optimiser, teacher, centre and torch's random state are in the checkpoint. So a run that was
killed at any moment goes on from its newest checkpoint as if nothing had happened, on the same number of
threads or the same card.
"""

import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from rich.console import Console
from torch import nn

from pathprep import atomic
from pathprep.errors import DatasetError
from pathprep.shards import Dataset
from pathprep.stain import Target
from pathtrain import checkpoint, schedules
from pathtrain.data import stain
from pathtrain.data.loader import Batch, Loader
from pathtrain.errors import CheckpointError, TrainError
from pathtrain.logs import Log
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import dump
from pathtrain.recipes.schema import Recipe
from pathtrain.target import RunTarget, settle

# What a resume may change: it does not touch the weights.
FREE = {"checkpoint", "log_every"}


@dataclass(frozen=True)
class Summary:
    """What ``pretrain`` did: finished steps before and after, the last loss (None if nothing was left)."""

    resumed_from: int
    steps: int
    loss: float | None


def pretrain(dataset: Path, recipe: Recipe, run: Path, fresh: bool, console: Console) -> Summary:
    """Train, or go on with, a run.

    Args:
        dataset: a dataset folder.
        run: the run's folder; created.
        fresh: start over; an old run there is renamed to RUN.old-1, RUN.old-2, ...
        console: where progress and messages go.

    Raises:
        CheckpointError: the run was started with another recipe or dataset, or its checkpoints are damaged.
        PathprepError: the dataset, the model or the data is wrong, or the loss is not finite.
    """
    data = Dataset(dataset)
    tiles = sum(data.tile_counts().values())
    if not tiles:
        raise DatasetError(f"{dataset}: no tiles to train on; see `pathprep report {dataset}`")
    stain.check(data, recipe.stain)
    target = settle(recipe.stain, None if fresh else run)
    if fresh:
        _set_aside(run, console)
    identity = _identity(recipe, data, tiles, target)
    _check(run, identity)
    total = recipe.total_steps(tiles)
    found = checkpoint.latest(run)
    if found is not None and found[0].config != _digest(identity):
        raise CheckpointError(f"{run}: {found[0].file} is not of the run in run.json; --fresh starts over")
    if found is not None and found[0].step >= total:
        console.print(f"{run}: finished, {total} of {total} steps; --fresh starts over", highlight=False)
        return Summary(total, total, None)
    run.mkdir(parents=True, exist_ok=True)
    atomic.sweep(run)
    atomic.sweep(checkpoint.folder(run))
    normalised = RunTarget.of_training(target, data)
    atomic.write_json(
        run / "run.json",
        {
            "dataset": str(dataset),
            "identity": identity,
            "normalised": normalised is not None,
            "slides": len(data.tile_counts()),
            "versions": _versions(),
        },
    )
    if normalised is not None:
        normalised.save(run)
    atomic.write_bytes(run / "recipe.yaml", dump(recipe).encode())
    return _Run(recipe, data, run, total, _digest(identity), found, target).train(console)


class _Run:
    """One process's part of a run: what the steps need, built or restored."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        folder: Path,
        total: int,
        config: str,
        found: tuple[checkpoint.Entry, dict[str, Any]] | None,
        target: Target | None,
    ) -> None:
        self.recipe, self.dataset, self.folder, self.target = recipe, dataset, folder, target
        self.total, self.config = total, config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(recipe.seed)
        self.method = Dino(recipe, total, self.device, fresh=found is None)
        self.optimizer = _optimizer(self.method.student, recipe)
        self.done = 0
        if found is not None:
            self._restore(found[1])

    def train(self, console: Console) -> Summary:
        start, loss = self.done, math.nan
        if start:
            console.print(f"resuming at step {start} of {self.total}", highlight=False)
        device_id = self.device.index or 0 if self.device.type == "cuda" else None
        loader = Loader(
            self.dataset,
            self.recipe,
            start,
            device_id=device_id,
            threads=torch.get_num_threads(),
            target=self.target,
        )
        with Log(self.folder, start, self.total, console) as log:
            since, waited, last = time.perf_counter(), 0.0, start
            for batch in loader:
                loss = self._step(batch, loader)
                waited += batch.wait
                log.advance(self.done)
                if self.done % self.recipe.log_every == 0 or self.done == self.total:
                    now, steps = time.perf_counter(), self.done - last
                    rate = {
                        "images_s": self.recipe.batch * steps / (now - since),
                        "data_wait": waited / (now - since),
                        "seconds_step": (now - since) / steps,
                    }
                    log.write({"step": self.done, "loss": loss, **self._schedule(self.done - 1), **rate})
                    since, waited, last = now, 0.0, self.done
                if self.done % self.recipe.checkpoint.every == 0 or self.done == self.total:
                    log.sync()
                    keep = self.recipe.checkpoint.keep
                    checkpoint.save(self.folder, self._state(), self.done, self.config, keep)
                if self.done == self.total:
                    break
        return Summary(start, self.done, loss)

    def _schedule(self, step: int) -> dict[str, float]:
        optim = self.recipe.optim
        return {
            "lr": schedules.warmed_cosine(step, self.total, optim.warmup_steps, optim.lr, optim.min_lr),
            "weight_decay": schedules.cosine(
                step, self.total, optim.weight_decay.start, optim.weight_decay.end
            ),
            **self.method.schedule(step),
        }

    def _step(self, batch: Batch, loader: Loader) -> float:
        """One optimiser step; returns the loss before it."""
        step = self.done
        now = self._schedule(step)
        decayed, plain = self.optimizer.param_groups
        decayed["lr"] = plain["lr"] = now["lr"]
        decayed["weight_decay"] = now["weight_decay"]
        reduced = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            outcome = self.method.loss(batch.views, step)
        loss = float(outcome.loss.detach())
        if not math.isfinite(loss):
            first = ", ".join(loader.name(int(tile)) for tile in batch.tiles[:3])
            raise TrainError(
                f"step {step + 1}: the loss is {loss}; the last checkpoint is untouched. Tiles of this step: "
                f"{first}, ... Lower optim.lr, or set precision=float32"
            )
        self.optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.optim.clip is not None:
            clip_each(self.method.student.parameters(), self.recipe.optim.clip)
        for parameter in self.method.frozen(step):
            parameter.grad = None  # AdamW then leaves it alone, weight decay included
        self.optimizer.step()
        self.method.update(outcome, step)
        self.done += 1
        return loss

    def _state(self) -> dict[str, Any]:
        rng = {"torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "step": self.done,
            **self.method.state(),
            "optimizer": self.optimizer.state_dict(),
            "rng": rng,
            "config": self.config,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.done = state["step"]
        self.method.load_state(state)
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"]["torch"])
        if self.device.type == "cuda" and "cuda" in state["rng"]:
            torch.cuda.set_rng_state(state["rng"]["cuda"], self.device)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW in two groups: with weight decay, and without (biases and anything of one dimension)."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    plain = [p for name, p in named if name.endswith(".bias") or p.ndim == 1]
    decayed = [p for name, p in named if not (name.endswith(".bias") or p.ndim == 1)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.optim.lr, betas=recipe.optim.betas, fused=True)


@torch.no_grad()
def clip_each(parameters: Any, largest: float) -> None:
    """Scale each gradient tensor whose L2 norm exceeds ``largest`` down to it, as DINO's clip_gradients.

    Each tensor on its own, unlike torch's clip_grad_norm_, which scales all by their common norm.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(grads)
    torch._foreach_mul_(grads, [(largest / (norm + 1e-6)).clamp(max=1) for norm in norms])


def _identity(recipe: Recipe, dataset: Dataset, tiles: int, target: Target | None) -> dict[str, Any]:
    """Everything that a resume must find unchanged, flat: recipe keys, and which tiles there are.

    The target counts by its values, wherever its file lies.
    """
    counts = dataset.tile_counts()
    values = {k: v for k, v in recipe.model_dump(mode="json").items() if k not in FREE}
    values["stain"]["target"] = None if target is None else target.as_params()
    if recipe.stain.mode == "none":
        del values["stain"]  # so that runs from before there was a stain stage go on
    return {
        **_flat(values),
        "dataset build id": dataset.info["build_id"],
        "dataset tiles": tiles,
        "dataset slides": _digest(counts)[:16],
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _check(run: Path, identity: dict[str, Any]) -> None:
    """Compare with what the run was started with."""
    try:
        before = json.loads((run / "run.json").read_bytes())["identity"]
    except FileNotFoundError:
        if checkpoint.entries(run):
            raise CheckpointError(f"{run}: has checkpoints but no run.json; --fresh starts over") from None
        return
    except (ValueError, KeyError):
        raise CheckpointError(f"{run}/run.json is damaged; --fresh starts over") from None
    changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
    if changed:
        shown = "; ".join(f"{key} was {before.get(key)}, is {identity.get(key)}" for key in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise CheckpointError(f"{run} was started otherwise: {shown}{more}; --fresh starts over")


def _set_aside(run: Path, console: Console) -> None:
    if not run.exists():
        return
    number = 1
    while (old := run.with_name(f"{run.name}.old-{number}")).exists():
        number += 1
    run.rename(old)
    console.print(f"the old run is now {old}", highlight=False)


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "timm": timm.__version__, "device": _device_name()}


def _device_name() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} threads"
    )
