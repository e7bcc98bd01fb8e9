"""``pathtrain pretrain``: a recipe and tiles to a run, started or gone on with."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pathprep.errors import UsageError
from pathprep.params.running import AnyPath
from pathprep.stain import Target
from pathprep.storage import atomic, locks
from pathtrain import methods
from pathtrain.data.opening import SURVEY, are_slides, opened, survey_first
from pathtrain.data.trained_on import TrainingData, no_tiles
from pathtrain.distributed import ranks as distributed
from pathtrain.errors import CheckpointError
from pathtrain.models.first_weights import misfit
from pathtrain.recipes.load import load, run_folder
from pathtrain.recipes.names_only import without_paths
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import beginning, checkpoint, described, lock, milestones, warm_start
from pathtrain.runs import identity as identities
from pathtrain.runs.identity import Changes
from pathtrain.stain import suits
from pathtrain.stain.target import ModelTarget, settle
from pathtrain.training import wandb_board
from pathtrain.training.held_out import hold_out
from pathtrain.training.logs import Watch
from pathtrain.training.loop import Loop, TrainSummary
from pathtrain.training.probes.base import Setting
from pathtrain.training.probes.live import Probes
from pathtrain.training.wandb_board import Wandb

log = logging.getLogger(__name__)

__all__ = ["TrainSummary", "pretrain"]


def pretrain(
    datasets: AnyPath | Iterable[AnyPath] = "dataset",
    recipe: Recipe | str | Path = "smoke",
    out: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | Sequence[str] = (),
    labels: str | Path | None = None,
    weights: str | Path | None = None,
    fresh: bool = False,
    change: bool = False,
    wandb: str | None = None,
    stop_on_collapse: bool = False,
    watch: Watch | None = None,
) -> TrainSummary:
    """Train, or go on with, a run; under torchrun every rank calls it.

    Args:
        datasets: the folder or URL of a dataset or of mixed shards; or several datasets; or a survey of
            slides; or slides, files or folders, of which one is made first, in the run's folder.
        recipe: the name of one that comes with the package, a .yaml file, or a recipe.
        out: the run's folder; created. None: runs/ and the recipe's name.
        settings: values that go before those of a named recipe: ``{"optim.lr": 0.001}``, or as
            ``["optim.lr=0.001"]``.
        fresh: start over; an old run there is renamed to RUN.old-1, RUN.old-2, ...
        change: go on although the recipe's ``optim`` or ``precision`` differ from the run's so far.
        labels: CSV or Parquet of slides, for the phases of a hierarchical recipe that need them.
        weights: a file of the weights of a public encoder that ``model.init`` names, for machines without
            internet.
        wandb: a project of Weights & Biases to log to as well.
        stop_on_collapse: end, with a checkpoint, where the run has looked collapsed for the recipe's
            ``warn_after`` steps, instead of warning alone.
        watch: is told of the progress, on rank 0.

    Raises:
        RecipeError: no such recipe, or a value is wrong.
        CheckpointError: the run was started with another recipe or dataset, or its checkpoints are damaged.
        RunBusyError: another process trains in the run's folder.
        UsageError: the batch cannot be divided among the ranks, or these cannot join; or ``stop_on_collapse``
            with a recipe whose ``warn_after`` is 0.
        CollapseError: the run has collapsed, with ``stop_on_collapse``.
        PathprepError: the dataset, the model or the data is wrong, or the loss is not finite.
    """
    run = run_folder(recipe, out)
    recipe = recipe if isinstance(recipe, Recipe) else load(recipe, settings)
    if stop_on_collapse and not recipe.warn_after:
        raise UsageError("`stop_on_collapse` needs warn_after above 0: after so many steps it stops")
    with distributed.ranks(timedelta(minutes=recipe.rank_timeout)) as ranks, ExitStack() as held:
        ranks.share(recipe.batch)
        if wandb is not None and ranks.first:
            wandb_board.check()
        going_on = not fresh and identities.begun(run) is not None
        if not going_on and ranks.decide(lambda: are_slides(datasets)):
            ranks.decide(lambda: survey_first(datasets, run))
        data = opened(datasets, recipe, run, going_on)
        tiles = len(data)
        if not tiles:
            raise no_tiles(data)
        target = settle(recipe.stain, None if fresh else run)
        if suits.check(data.stained, recipe.stain, target).mode != recipe.stain.mode:
            ranks.say(log, "%s: its tiles are normalised to the recipe's target already", data.said)
        begun = None if fresh else identities.begun(run)
        model = ranks.decide(
            partial(beginning.settled, recipe.model, begun, None if weights is None else Path(weights))
        )
        recipe = recipe.model_copy(update={"model": model})
        setup = methods.setup(recipe, data, None if labels is None else Path(labels))
        for line in setup.account():
            ranks.say(log, "%s", line)
        held_out = hold_out(data, recipe, setup.labelled(), None if fresh else identities.held_out(run))
        for line in held_out.said:
            ranks.say(log, "%s", line)
        recipe = recipe.model_copy(update={"probes": held_out.probes})
        tiles -= len(held_out.tiles)
        total = recipe.total_steps(tiles)
        if (frozen := recipe.optim.freeze_backbone_steps) >= total:
            raise UsageError(
                f"optim.freeze_backbone_steps={frozen}, and the run has {total} steps: only heads would be "
                "trained; set it lower, or epochs higher"
            )
        groups = data.groups(recipe.sampling, held_out.tiles)
        drawn = data.account(groups, held_out.tiles)
        if groups is not None:
            drawn.insert(0, groups.said())
        for line in drawn:
            ranks.say(log, "%s", line)
        identity = identities.identity(recipe, data, tiles, target, held_out.slides, groups)
        identity |= setup.identity() | ranks.decide(lambda: beginning.identity(model, begun))
        start = ranks.decide(lambda: warm_start.find(recipe.model, run, begun))
        identity |= start.identity() if start is not None else {}

        def begin() -> tuple[checkpoint.Entry | None, Changes]:
            held.enter_context(lock.exclusive(run))
            return (None, {}) if fresh else _begin(run, identity, total, change)

        entry, changed = ranks.decide(begin)
        if entry is not None and entry.step >= total:
            ranks.decide(partial(_end, run, recipe, entry))
            ranks.say(log, "%s: finished, %d of %d steps; `fresh` starts over", run, total, total)
            return TrainSummary(total, total, None)
        what = "%s of %s: %d steps into %s, on %d x %s"
        ranks.say(log, what, data.counted(tiles), data.said, total, run, ranks.world, ranks.device.type)
        state = None if entry is None else checkpoint.read(run, entry)
        torch.manual_seed(recipe.seed)  # the same weights on every rank
        method = setup.method(total, ranks.device, fresh=state is None and start is None)
        if state is None:
            if start is not None:
                ranks.say(log, "%s", warm_start.adopt(method, recipe, start))
            for line in beginning.account(recipe, start):
                ranks.say(log, "%s", line)
            learnt = None if start is None else start.colours()
            for said in (misfit(recipe.model, learnt), beginning.other_positions(recipe.model, start)):
                if ranks.first and said:
                    log.warning(said)
        loop = Loop(recipe, method, run, total, identities.fixed(identity), ranks, state)
        probes: list[Probes] = []  # of rank 0
        board = None

        def prepare() -> None:
            normalised = ModelTarget.of_training(target, data.stained[0])
            where = Setting(data, held_out.slides, normalised, recipe.seed, ranks.device, ranks.threads)
            probes.append(Probes(recipe, where))

        if recipe.probes:
            ranks.decide(prepare)

        def settled() -> None:
            """What could be wrong was not: only now an old run goes, and the new one says what it is."""
            if fresh and any(path.name != locks.NAME for path in run.iterdir()):
                identities.set_aside(run, keep=SURVEY)
                held.enter_context(lock.exclusive(run))
            _describe(run, recipe, data, identity, target, entry, changed, drawn)
            milestones.forget(run, 0 if entry is None else entry.step)

        ranks.decide(settled)
        if ranks.first and wandb is not None:
            board = Wandb(wandb, run, without_paths(recipe).model_dump(mode="json"))
        return loop.train(
            lambda start: setup.source(start, ranks, target, held_out.tiles),
            watch,
            probes=probes[0] if probes else None,
            wandb=board,
            after=setup.validation(method, ranks, target),
            stop_on_collapse=stop_on_collapse,
        )


def _begin(
    run: Path, identity: dict[str, Any], total: int, change: bool
) -> tuple[checkpoint.Entry | None, Changes]:
    """Check the run's folder; returns the checkpoint to go on from, and what has changed since it."""
    changed = identities.check(run, identity, change)
    found = checkpoint.latest(run)
    if found is not None and found.config != identities.fixed(identity):
        raise CheckpointError(f"{run}: {found.file} is not of the run in run.json; `fresh` starts over")
    atomic.sweep(run)
    atomic.sweep(checkpoint.folder(run))
    return found, changed


def _end(run: Path, recipe: Recipe, entry: checkpoint.Entry) -> None:
    """What a kill or an error after the last checkpoint left undone."""
    described.mend(run, recipe)
    checkpoint.settle(run, entry, recipe.checkpoint.keep)


def _describe(
    run: Path,
    recipe: Recipe,
    data: TrainingData,
    identity: dict[str, Any],
    target: Target | None,
    entry: checkpoint.Entry | None,
    changed: Changes,
    drawn: list[str],
) -> None:
    """Write what the run is, and what was changed on its way."""
    normalised = ModelTarget.of_training(target, data.stained[0])
    about = {
        **data.place(),
        "identity": identity,
        "normalised": normalised is not None,
        **({"drawn": drawn} if drawn else {}),
        **data.counts(identity.get("held-out slides", ())),
        "versions": identities.versions(),
        "changes": identities.changes(run, 0 if entry is None else entry.step, changed),
    }
    if normalised is not None:
        normalised.save(run)
    described.write(run, recipe, about)
