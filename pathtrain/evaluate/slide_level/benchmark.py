"""Labels of slides from frozen features: CLAM, ABMIL and a linear head, with colour alone beside them.

"Early exit" in EXAONE Path 2.0: stage-1 features of tiles with CLAM; slide-level models get a linear head.

    clam-sb, clam-mb, abmil    pathtrain.models.mil, trained per seed and stopped by a val part
    linear                     logistic regression (L2, C = 1) on slide vectors, standardised on the training
                               slides: the slide's own vector, or the mean of its tiles'
    colour, colour+LBP         the same on what pixels alone say: see pathtrain.evaluate.slide_level.colour

Baselines that are networks (the start, random weights) are folders of features like the model's own.
The last three are without randomness: one value instead of one per seed. With fixed parts they learn from
train alone, as the others do; val slides that are drawn are drawn from train, and they learn from those too.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.errors import UsageError
from pathprep.words import command
from pathtrain.distributed.workers import pick_device
from pathtrain.evaluate.baselines import COLOUR, HANDMADE, TEXTURE
from pathtrain.evaluate.slide_level.colour import colour
from pathtrain.evaluate.slide_level.mil_training import predict, tiles, train
from pathtrain.evaluate.slide_level.scores import Predictions, Row, Runs, score
from pathtrain.evaluate.slide_level.splits import Split, hold_out, splits
from pathtrain.evaluate.slide_level.tasks import Missing, Task
from pathtrain.features.bags import Bags
from pathtrain.features.texture import COLOURS
from pathtrain.models.mil import Mil, MilConfig
from pathtrain.params.slide_level import Method, SlidesConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attention:
    """Where a model looked on one scored slide.

    Attributes:
        model: name of the features.
        task: its name.
        method: CLAM or ABMIL.
        slide: its name.
        label: its class.
        predicted: the class whose branch is shown, if there is one per class.
        probability: of ``predicted``.
        scores: (N,) attention before the softmax.
        drawn: whether it is one of those that heat maps show.
    """

    model: str
    task: str
    method: str
    slide: str
    label: str
    predicted: str
    probability: float
    scores: Floats
    drawn: bool = True


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
        ``result``: ``tasks``, each with ``name``, ``missing`` (why, or None), ``classes``, counts, ``split``,
        ``validation`` and ``results``: ``model``, ``method`` and the scores (see scores.score).

    Raises:
        UsageError: a split that cannot be, a slide that the dataset lacks, or a method without bags.
    """
    config = config or SlidesConfig()
    _check(models, tasks, config, heatmaps)
    divided = {task.name: splits(task, config.folds) for task in tasks if isinstance(task, Task)}
    needed = sorted({slide for task in tasks if isinstance(task, Task) for slide in task.slides})
    alone = None if dataset is None else colour(dataset, needed, config.threads)
    entries: list[dict[str, Any]] = []
    attention: list[Attention] = []
    for task in tasks:
        if isinstance(task, Missing):
            entries.append({"name": task.name, "missing": task.reason, "results": []})
            continue
        found: dict[Row, Runs] = {}
        trained: dict[Row, list[int] | None] = {}
        shown = _chosen(task, divided[task.name], heatmaps)
        for model in models:
            for method in _methods(model, config):
                row = model.name, method
                found[row], looked, trained[row] = _run(
                    model, task, method, divided[task.name], config, shown, every
                )
                attention += looked
                log.info("%s: %s %s: trained and scored", task.name, *row)
        for name, length in ((COLOUR, COLOURS), (TEXTURE, None)):
            if alone is None:
                break
            vectors = np.stack([alone[slide][:length] for slide in task.slides])
            row = name, "linear"
            found[row], trained[row] = [[_linear(task, vectors, split) for split in divided[task.name]]], None
        rows = [
            {"model": row[0], "method": row[1], **scores, "epochs": trained[row]}
            for row, scores in score(task, found, 0).items()
        ]
        entries.append({**_describe(task, divided[task.name], config), "results": rows})
    return Outcome(
        {
            "task": "slides",
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


def _check(
    models: Sequence[Bags],
    tasks: Sequence[Task | Missing],
    config: SlidesConfig,
    heatmaps: Sequence[str] | None,
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
        if not list(_methods(model, config)):
            raise UsageError(
                f"{model.root}: one vector per slide, which `method` {' or '.join(config.methods)} cannot "
                "use; give `method` linear, or features of tiles"
            )
    known = {slide for task in tasks if isinstance(task, Task) for slide in task.slides}
    for slide in heatmaps or ():
        if slide not in known:
            raise UsageError(f"`heatmap` {slide}: no task has a label for it")


def _methods(model: Bags, config: SlidesConfig) -> Iterator[Method]:
    return (method for method in config.methods if model.bags or method == "linear")


def _describe(task: Task, divided: list[Split], config: SlidesConfig) -> dict[str, Any]:
    fixed_val = divided[0].val is not None
    return {
        "name": task.name,
        "missing": None,
        "classes": task.classes,
        "slides": len(task.slides),
        "patients": len(task.patients) if task.by_patient else None,
        "per_class": {name: int((task.labels == number).sum()) for number, name in enumerate(task.classes)},
        "left_out": task.left_out,
        "split": "fixed" if config.folds is None else f"{config.folds} folds",
        "validation": "fixed" if fixed_val else "a fifth of the training patients, drawn by each seed",
        "train": [len(split.train) for split in divided],
        "val": [len(split.val) if split.val is not None else None for split in divided],
        "test": [len(split.test) for split in divided],
    }


def _run(
    model: Bags,
    task: Task,
    method: Method,
    divided: list[Split],
    config: SlidesConfig,
    shown: set[int],
    every: bool,
) -> tuple[list[list[Predictions]], list[Attention], list[int] | None]:
    """Predictions per seed and fold, the first seed's attention, and how many epochs each training took."""
    if method == "linear":
        vectors = np.stack([model.mean(slide) for slide in task.slides])
        return [[_linear(task, vectors, split) for split in divided]], [], None
    device = pick_device(config.device)
    mil = MilConfig(method=method, size=config.size, instance_loss=config.instance_loss)

    def read(row: int) -> Floats:
        return model.read(task.slides[row])

    runs: list[list[Predictions]] = []
    looked: list[Attention] = []
    epochs: list[int] = []
    for seed in range(config.seeds):
        run = []
        for split in divided:
            fit, held = (
                (split.train, split.val) if split.val is not None else hold_out(task, split.train, seed)
            )
            trained = train(
                read,
                task.labels,
                fit,
                held,
                dim=model.dim,
                classes=len(task.classes),
                mil=mil,
                config=config.training,
                seed=seed,
                device=device,
            )
            epochs.append(trained.epochs)
            run.append(Predictions(split.test, predict(trained.model, read, split.test, device)))
            if seed == 0:
                rows = [row for row in split.test.tolist() if every or row in shown]
                found = [_look(trained.model, model, task, method, row, device) for row in rows]
                looked += [replace(one, drawn=row in shown) for row, one in zip(rows, found, strict=True)]
        runs.append(run)
    return runs, looked, epochs


def _look(trained: Mil, model: Bags, task: Task, method: Method, row: int, device: torch.device) -> Attention:
    with torch.inference_mode():
        logits, scores, _ = trained(tiles(lambda number: model.read(task.slides[number]), row, device))
    probabilities = logits.softmax(dim=0)
    predicted = int(probabilities.argmax())
    return Attention(
        model=model.name,
        task=task.name,
        method=method,
        slide=task.slides[row],
        label=task.classes[task.labels[row]],
        predicted=task.classes[predicted],
        probability=float(probabilities[predicted]),
        scores=scores[predicted if len(scores) > 1 else 0].cpu().numpy(),
    )


def _linear(task: Task, vectors: Floats, split: Split) -> Predictions:
    """Logistic regression on standardised slide vectors, (n, D)."""
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    head.fit(vectors[split.train].astype(np.float64), task.labels[split.train])
    return Predictions(split.test, head.predict_proba(vectors[split.test].astype(np.float64)))


def _chosen(task: Task, divided: list[Split], heatmaps: Sequence[str] | None) -> set[int]:
    """Rows whose attention is kept."""
    test = sorted({int(row) for split in divided for row in split.test}, key=lambda row: task.slides[row])
    if heatmaps is not None:
        return {row for row in test if task.slides[row] in heatmaps}
    return {
        next(row for row in test if task.labels[row] == number)
        for number in {int(task.labels[row]) for row in test}
    }
