"""The training loop: plain steps, killed and resumed to the bit.

A run's place is the number of finished steps. Schedules, sample order, augmentations and torch's random
state follow from it; weights, optimiser and what the method remembers are in the checkpoint. So a run that
was killed at any moment goes on from its newest checkpoint as if nothing had happened, on the same number
of ranks and threads or the same cards; on others it differs by rounding, and by the stochastic depth that
each rank draws for itself.
"""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pathprep.storage import atomic
from pathtrain.data.order import Ints
from pathtrain.distributed.alike import check_alike
from pathtrain.distributed.fsdp import compile_blocks, divided_optimizer_state, shard, whole
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import CollapseError, TrainError
from pathtrain.methods.base import BatchSource, Method
from pathtrain.recipes.probes import Probe
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import checkpoint, milestones
from pathtrain.training import compiling, logs, step
from pathtrain.training.health import Health
from pathtrain.training.logs import Log, NoLog, Row, Watch
from pathtrain.training.meter import Meter
from pathtrain.training.optim import adamw
from pathtrain.training.probes.live import Probes, due
from pathtrain.training.step import Done, Queued, Stepper
from pathtrain.training.stopping import StopRequests
from pathtrain.training.wandb_board import Wandb

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSummary:
    """What a training command did.

    Attributes:
        resumed_from, steps: finished steps before and after.
        loss: the mean over the steps of the last row, or since it; None if nothing was left to do.
        stopped: the signal that ended it early, after a checkpoint.
    """

    resumed_from: int
    steps: int
    loss: float | None
    stopped: str | None = None


@dataclass(frozen=True)
class _Waiting:
    """A step that is queued: its tiles, and its number, from 1."""

    queued: Queued
    tiles: Ints
    step: int


class Loop:
    """One process's part of a run.

    Args:
        recipe: its ``seed``, ``batch``, ``optim``, ``checkpoint`` and the like; ``method`` is not looked at.
        method: new, on ``ranks.device``.
        folder: the run's; exists.
        total: steps of the whole run.
        config: hash of the run's identity, for its checkpoints.
        ranks: all processes of the run.
        state: a checkpoint to go on from.

    Raises:
        TrainError: ranks begin with different weights.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: Method,
        folder: Path,
        total: int,
        config: str,
        ranks: Ranks,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.recipe, self.method, self.folder = recipe, method, folder
        self.total, self.config, self.ranks = total, config, ranks
        self.done, self._loss = 0, math.nan
        self._waiting: _Waiting | None = None
        self.meter = Meter(recipe, method, ranks)
        if state is not None:
            self.done = state["step"]
            self.meter.load_state(state["row"])
            method.load_state(state)  # whole tensors, so before they are divided
        check_alike(dict(method.student.state_dict()), ranks)
        if recipe.sharding == "full" and ranks.world > 1:
            shard(method.networks())
        compiled = compiling.wanted(recipe.compile, ranks.device)
        if compiled:
            ranks.say(log, "networks are compiled in the first step, which takes a minute or more")
        if compiled and recipe.sharding == "full":
            compile_blocks(method.networks())
        self.optimizer = adamw(method.student, recipe.optim)
        if state is not None:
            self.optimizer.load_state_dict(divided_optimizer_state(state["optimizer"], self.optimizer))
            for group in self.optimizer.param_groups:
                group["betas"] = recipe.optim.betas  # which may have changed; the rest is set at each step
        self.stepper = Stepper(method, self.optimizer, recipe, ranks, total)
        if compiled and recipe.sharding == "none":
            self.stepper.compile()

    def train(
        self,
        source: Callable[[int], BatchSource],
        watch: Watch | None = None,
        probes: Probes | None = None,
        wandb: Wandb | None = None,
        after: Callable[[int], Row] | None = None,
        stop_on_collapse: bool = False,
    ) -> TrainSummary:
        """Take the steps that are left.

        Args:
            source: called with the number of finished steps.
            watch: shows the progress.
            probes: on rank 0, those of the recipe; their figures are logged.
            wandb: on rank 0, gets the log's rows too.
            after: called with the number of finished steps after each; what it returns is logged.
            stop_on_collapse: whether to end, with a checkpoint, where a warning says that it has collapsed.

        Raises:
            TrainError: loss or gradient are not finite.
            CollapseError: it has collapsed, if that is to stop it.
        """
        start = self.done
        if start:
            self.ranks.say(log, "resuming at step %d of %d", start, self.total)
        shown = watch if watch is not None and self.ranks.first else _unwatched
        shown(start, self.total, None)
        new = Log(self.folder, start, wandb) if self.ranks.first else NoLog()
        health = Health(self.recipe, logs.rows(self.folder) if self.ranks.first else ())
        meter, collapsed = self.meter, ""
        with StopRequests() as requests, new as rows, closing(source(start)) as batches:
            if not start:
                self._before(probes, rows)
            for batch in batches:
                if self.done == start:
                    meter.learn(batch)
                stop = requests.received is not None or collapsed != ""
                queued = self.stepper.take(batch, self.done, stop)
                asked = self._settle(batches)  # of the step before, while this one is computed
                self.done += 1
                self._waiting = _Waiting(queued, batch.tiles, self.done)
                for line in batches.news():  # of this rank's samples, whichever it is
                    log.warning("step %d: %s", self.done, line)
                if after is not None:  # it may take long, so first what is wrong
                    asked |= self._settle(batches)
                found = after(self.done) if after is not None else {}
                self._say(f"step {self.done}", found)
                last = self.done == self.total
                probing = due(self.recipe, self.done, last)
                kept = self.recipe.checkpoint.milestones
                keeping = kept is not None and self.done % kept == 0
                saving = self.done % self.recipe.checkpoint.every == 0 or last
                # where a signal stops it there is no row: who goes on ends the one that is begun
                rowing = self.done % self.recipe.log_every == 0 or probing or bool(found) or last
                # alone, one need not wait for what the others were asked
                asked |= stop and self.ranks.world == 1
                if rowing or keeping or saving or asked:
                    asked |= self._settle(batches)
                row: Row | None = None
                if rowing:
                    values = step.scheduled(self.recipe, self.method, self.total, self.done - 1)
                    row = {"step": self.done, **meter.row(), **values, **found}
                    if probing:
                        row |= self._measure(probes, probing, f"step {self.done}")
                    rows.write(row)
                    meter.restart()
                    if self.ranks.first:
                        for line in health.see(row):
                            log.warning("%s", line)
                        if stop_on_collapse and health.now:
                            collapsed = "; ".join(f"since step {s.first}, {s.words}" for s in health.now)
                shown(self.done, self.total, row)
                if keeping:
                    self._keep_encoder()
                if saving or asked:
                    self._save(rows)
                if last or asked:
                    break
        if stop_on_collapse:
            self.ranks.decide(partial(self._refuse, collapsed))
        stopped = None
        if self.done < self.total:
            stopped = next(name for name in self.ranks.gather(requests.received) if name)
            text = "%s: stopped after step %d of %d, checkpoint written; the same command goes on"
            self.ranks.say(log, text, stopped, self.done, self.total)
        return TrainSummary(start, self.done, self._loss, stopped)

    def _settle(self, source: BatchSource) -> bool:
        """Read the numbers of the step that is waited for, if one is; returns whether it is asked to stop."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return False
        done = waiting.queued.read()
        if not done.taken:
            self._not_finite(done, waiting, source)
        self.meter.count(done)
        self._loss = self.meter.loss
        return done.stop

    def _before(self, probes: Probes | None, rows: Log | NoLog) -> None:
        """What the probes say of the first weights: what the curves rise from."""
        if not self.recipe.probes:
            return
        found = self._measure(probes, self.recipe.probes, "before the first step")
        if found:
            rows.write({"step": 0, **found})

    def _measure(self, probes: Probes | None, wanted: Sequence[Probe], when: str) -> Row:
        """All ranks take part; rank 0 measures, and says what it found."""
        weights = whole(self.method.encoder().state_dict(), keep=self.ranks.first)
        found = self.ranks.gather(probes(weights, wanted) if probes is not None else {})[0]
        self._say(when, found)
        return found

    def _say(self, when: str, found: Row) -> None:
        if found:
            said = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
            self.ranks.say(log, "%s: %s", when, said)

    def _keep_encoder(self) -> None:
        """All ranks take part; rank 0 writes."""
        weights = whole(self.method.encoder().state_dict(), keep=self.ranks.first)
        if self.ranks.first:
            milestones.save(self.folder, self.recipe, weights, self.done)

    def _save(self, rows: Log | NoLog) -> None:
        """All ranks take part; rank 0 writes."""
        state = {
            "step": self.done,
            **self.method.state(),
            "optimizer": self.optimizer.state_dict(),
            "row": self.meter.state(),
            "config": self.config,
        }
        state = whole(state, keep=self.ranks.first)
        if self.ranks.first:
            rows.sync()
            checkpoint.save(self.folder, state, self.done, self.config, self.recipe.checkpoint.keep)

    def _refuse(self, collapsed: str) -> None:
        if collapsed:
            place = f"{self.folder}: stopped after step {self.done} of {self.total}"
            ways = "start over with other values and `fresh`, or go on without `stop_on_collapse`"
            raise CollapseError(f"{place}, checkpoint written: {collapsed}; {ways}")

    def _not_finite(self, done: Done, waiting: "_Waiting", source: BatchSource) -> None:
        """Say where, and which tiles; the weights have not moved."""
        losses = done.each.float().tolist()
        names = [source.name(int(tile)) for tile in waiting.tiles]
        everyone = self.ranks.gather(list(zip(names, losses, strict=True)))
        tiles = [(rank, name, loss) for rank, part in enumerate(everyone) for name, loss in part]
        bad = [name for _, name, loss in tiles if not math.isfinite(loss)]
        number = waiting.step
        what = f"loss is {done.loss}" if not math.isfinite(done.loss) else "gradient is not finite"
        path = self.folder / f"nonfinite-{number}.json"

        def write() -> str:
            found = checkpoint.latest(self.folder)
            last = None if found is None else str(checkpoint.folder(self.folder) / found.file)
            record = {
                "step": number,
                "loss": str(done.loss),
                "gradient_norm": str(done.gradient_norm),
                "checkpoint": last,
                "not_finite": bad,
                "tiles": [{"rank": r, "name": name, "loss": str(loss)} for r, name, loss in tiles],
            }
            atomic.write_json(path, record)
            return f"the newest checkpoint is {last}" if last else "there is no checkpoint yet"

        last = self.ranks.decide(write)
        shown = bad or [name for _, name, _ in tiles]
        which = (
            f"Tiles whose own loss is not finite: {len(bad)} of {len(tiles)}" if bad else "Tiles of this step"
        )
        raise TrainError(
            f"step {number}: the {what}; {last}. {which}: {', '.join(shown[:3])}{', ...' * (len(shown) > 3)} "
            f"(all in {path}). Go on with a lower {self.recipe.rate_key(number - 1)}, or with "
            "precision=float32; `change` allows it"
        )


def _unwatched(done: int, total: int, row: Row | None) -> None:
    """Nobody looks on."""
