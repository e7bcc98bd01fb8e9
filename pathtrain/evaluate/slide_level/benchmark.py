"""Labels of slides from frozen features: bag models and a linear head, with colour alone beside them.

"Early exit" in EXAONE Path 2.0: stage-1 features of tiles with CLAM; slide-level models get a linear head.

    clam-sb, clam-mb, abmil        pathtrain.models.mil; CLAM's instances need classes, elsewhere it is ABMIL
    transmil, dsmil, mean-mlp      pathtrain.models.transmil and bag_models
    linear                         pathtrain.evaluate.slide_level.linear on slide vectors: the slide's own, or
                                   the mean of its tiles'
    colour, colour+LBP             the same on what pixels alone say: pathtrain.evaluate.slide_level.colour

All but the last two are trained per seed and stopped by a val part (mil_training).

Baselines that are networks (the start, random weights) are folders of features like the model's own.
The last three are without randomness: one value instead of one per seed. With fixed parts they learn from
train alone, as the others do; val slides that are drawn are drawn from train, and they learn from those too.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.words import command
from pathtrain.evaluate.baselines import COLOUR, HANDMADE, TEXTURE
from pathtrain.evaluate.slide_level.colour import colour
from pathtrain.evaluate.slide_level.runs import Attention, Run, methods_of, run, run_linear
from pathtrain.evaluate.slide_level.scores import Row, score
from pathtrain.evaluate.slide_level.splits import Split, splits
from pathtrain.evaluate.slide_level.tasks import Missing, Task
from pathtrain.features.bags import Bags
from pathtrain.features.texture import COLOURS
from pathtrain.params.slide_level import SlidesConfig
from pathtrain.params.tasks import TOLD

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result as JSON, and the attention of the chosen slides."""

    result: dict[str, Any]
    attention: list[Attention]


def evaluate(
    models: Sequence[Bags],
    tasks: Sequence[Task | Missing],
    config: SlidesConfig | None = None,
    *,
    dataset: Path | None = None,
    heatmaps: Sequence[str] | None = None,
    every: bool = False,
) -> Outcome:
    """Train and score every method on every task, for every model.

    Args:
        models: folders of features, with different names.
        tasks: from pathtrain.evaluate.slide_level.tasks.
        config: methods, seeds, folds.
        dataset: of the same slides, for colour and patterns; None leaves them out.
        heatmaps: slides whose attention is kept; None for one scored slide per class and task.
        every: keep the attention of all scored slides beside these, of the first seed.

    Returns:
        ``result``: ``tasks``, each with ``name``, ``missing`` (why, or None), ``kind``, ``figure``
        (its first), ``classes``, counts, ``split``, ``validation`` and ``results``: ``model``, ``method`` and
        the figures (see scores.score).

    Raises:
        UsageError: a split that cannot be, a slide that the dataset lacks, or a method without bags.
    """
    config = (config or SlidesConfig()).settled()
    asked = [task for task in tasks if isinstance(task, Task)]
    _check(models, asked, config, heatmaps)
    divided = {task.name: splits(task, config.folds) for task in asked}
    needed = sorted({slide for task in asked for row in range(len(task.slides)) for slide in task.bag(row)})
    alone = None if dataset is None else colour(dataset, needed, config.threads)
    entries: list[dict[str, Any]] = []
    attention: list[Attention] = []
    for task in tasks:
        if isinstance(task, Missing):
            entries.append({"name": task.name, "missing": task.reason, "results": []})
            continue
        found: dict[Row, Run] = {}
        shown = _chosen(task, divided[task.name], heatmaps)
        for model in models:
            for method in methods_of(model, task, config):
                row = model.name, method
                found[row] = run(model, task, method, divided[task.name], config, shown, every)
                attention += found[row].attention
                log.info("%s: %s %s: trained and scored", task.name, *row)
        for name, length in ((COLOUR, COLOURS), (TEXTURE, None)):
            if alone is None:
                break
            bags = [[alone[slide][:length] for slide in task.bag(row)] for row in range(len(task.slides))]
            vectors = np.stack([np.mean(own, axis=0) for own in bags])
            found[name, "linear"] = run_linear(task, vectors, divided[task.name])
        scores = score(task, {row: own.predictions for row, own in found.items()}, 0)
        rows = [
            {"model": row[0], "method": row[1], **scores[row], "epochs": own.epochs}
            for row, own in found.items()
        ]
        entries.append({**_describe(task, divided[task.name], config), "results": rows})
    return Outcome(
        {
            "task": "slides",
            "protocol": PROTOCOLS[config.protocol],
            "models": [
                {
                    "name": model.name,
                    "features": str(model.root),
                    "dim": model.dim,
                    "slides": len(model.counts),
                    "bags": model.bags,
                    **model.said("encoder", "fingerprint", "readout", "licence"),
                }
                for model in models
            ],
            "dataset": None if dataset is None else str(dataset),
            "config": asdict(config),
            "tasks": entries,
        },
        attention,
    )


PROTOCOLS = {
    "clam": "CLAM: Adam, one bag a step (survival: a risk set), stopped by the validation loss",
    "eva": "eva: its ABMIL, AdamW, batches of bags, stopped by the validation's balanced accuracy",
}


def _check(
    models: Sequence[Bags], tasks: Sequence[Task], config: SlidesConfig, heatmaps: Sequence[str] | None
) -> None:
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    taken = twice or next((name for name in names if name in HANDMADE), None)
    if taken is not None:
        raise UsageError(
            f"{'two models are' if twice else 'a model is'} called {taken}; name them otherwise: "
            + command("pathtrain evaluate slides", f"first={models[0].root}", "...")
        )
    for model in models:
        if not model.bags and "linear" not in config.methods:
            raise UsageError(
                f"{model.root}: one vector per slide, which `method` {' or '.join(config.methods)} cannot "
                "use; give `method` linear, or features of tiles"
            )
    known = {slide for task in tasks for row in range(len(task.slides)) for slide in task.bag(row)}
    for slide in heatmaps or ():
        if slide not in known:
            raise UsageError(f"`heatmap` {slide}: no task has a label for it")
    replaced = {"clam-sb", "clam-mb"} & set(config.methods)
    for task in tasks:
        if replaced and task.kind != "classes":
            log.info("task %s: CLAM's instances need classes; without them it is abmil", task.name)


def _describe(task: Task, divided: list[Split], config: SlidesConfig) -> dict[str, Any]:
    fixed_val = divided[0].val is not None
    names, numbers = task.strata
    per_class = {} if task.kind == "regression" else names
    return {
        "name": task.name,
        "missing": None,
        "kind": task.kind,
        "figure": TOLD[task.kind][0],
        "classes": task.classes,
        "slides": sum(len(task.bag(row)) for row in range(len(task.slides))),
        "bags": len(task.slides),
        "patients": len(task.patients) if task.by_patient else None,
        "per_class": {name: int((numbers == number).sum()) for number, name in enumerate(per_class)},
        "range": None if task.numbers is None else [float(task.numbers.min()), float(task.numbers.max())],
        "left_out": task.left_out,
        "split": "fixed" if config.folds is None else f"{config.folds} folds",
        "validation": "fixed" if fixed_val else "a fifth of the training patients, drawn by each seed",
        "train": [len(split.train) for split in divided],
        "val": [len(split.val) if split.val is not None else None for split in divided],
        "test": [len(split.test) for split in divided],
    }


def _chosen(task: Task, divided: list[Split], heatmaps: Sequence[str] | None) -> set[int]:
    """Rows whose attention is drawn."""
    test = sorted({int(row) for split in divided for row in split.test}, key=lambda row: task.slides[row])
    if heatmaps is not None:
        return {row for row in test if set(task.bag(row)) & set(heatmaps)}
    numbers = task.strata[1]
    return {
        next(row for row in test if numbers[row] == number) for number in {int(numbers[row]) for row in test}
    }
