"""Methods on a task: trained on each split by each seed, their predictions, and where they looked."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pathtrain.distributed.workers import pick_device
from pathtrain.evaluate.slide_level.linear import linear
from pathtrain.evaluate.slide_level.measures import Predictions
from pathtrain.evaluate.slide_level.mil_training import predict, tiles, train
from pathtrain.evaluate.slide_level.objectives import Objective
from pathtrain.evaluate.slide_level.splits import Split, hold_out
from pathtrain.evaluate.slide_level.tasks import Task
from pathtrain.features.bags import Bags
from pathtrain.models.bag_models import Network
from pathtrain.models.mil import MilConfig
from pathtrain.params.slide_level import Method, SlidesConfig

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Attention:
    """Where a model looked on one scored slide.

    Attributes:
        model: name of the features.
        task: its name.
        method: of bags.
        slide: its name.
        label: its class, or what else is true of it.
        predicted: the class whose branch is shown, if there is one per class; or the number that it says.
        probability: of ``predicted``; None of numbers and survival.
        scores: (N,) attention before the softmax.
        drawn: whether it is one of those that heat maps show.
    """

    model: str
    task: str
    method: str
    slide: str
    label: str
    predicted: str
    probability: float | None
    scores: Floats
    drawn: bool = True


@dataclass
class Run:
    """What a method gave.

    Attributes:
        predictions: per seed, per fold.
        attention: of the first seed.
        epochs: of each training; None of what is not trained by epochs.
    """

    predictions: list[list[Predictions]]
    attention: list[Attention] = field(default_factory=list)
    epochs: list[int] | None = None


def methods_of(model: Bags, task: Task, config: SlidesConfig) -> Iterator[Method]:
    """Those that fit features and task: CLAM's instances need classes, without which it is ABMIL."""
    taken: list[Method] = []
    for method in config.methods:
        own = "abmil" if method in ("clam-sb", "clam-mb") and task.kind != "classes" else method
        if own not in taken and (model.bags or own == "linear"):
            taken.append(own)
    return iter(taken)


def vectors_of(model: Bags, task: Task) -> Floats:
    """(n, D): a bag's vector, or the mean of all of its tiles."""
    return np.stack(
        [_bag(model, task, row).mean(axis=0, dtype=np.float64) for row in range(len(task.slides))]
    ).astype(np.float32)


def run_linear(task: Task, vectors: Floats, divided: list[Split]) -> Run:
    """A linear head on vectors of all rows."""
    found = [
        Predictions(split.test, linear(Objective.of(task, split.train), vectors, split.train, split.test))
        for split in divided
    ]
    return Run([found])


def run(
    model: Bags,
    task: Task,
    method: Method,
    divided: list[Split],
    config: SlidesConfig,
    shown: set[int],
    every: bool,
) -> Run:
    """Train a method for each seed and split.

    Args:
        config: settled.
        shown: rows whose attention is drawn.
        every: keep the attention of all scored rows.
    """
    if method == "linear":
        return run_linear(task, vectors_of(model, task), divided)
    device, eva = pick_device(config.device), config.protocol == "eva"
    mil = MilConfig(
        method=method if method in ("clam-sb", "clam-mb") else "abmil",
        size=config.size,
        instance_loss=config.instance_loss,
    )
    network: Network = "eva-abmil" if eva else method
    schedule = config.training.of(config.protocol, survival=task.kind == "survival")

    def read(row: int) -> Floats:
        return _bag(model, task, row)

    found, epochs = Run([]), list[int]()
    for seed in range(config.seeds or 1):
        own = []
        for split in divided:
            fit, held = (
                (split.train, split.val) if split.val is not None else hold_out(task, split.train, seed)
            )
            objective = Objective.of(task, fit, binary=eva, regression_loss=config.regression_loss)
            trained = train(
                read, objective, fit, held, dim=model.dim, network=network, mil=mil, config=schedule,
                seed=seed, device=device,
            )  # fmt: skip
            epochs.append(trained.epochs)
            own.append(Predictions(split.test, predict(trained.model, objective, read, split.test, device)))
            if seed == 0:
                for row in split.test.tolist():
                    if every or row in shown:
                        looked = _look(trained.model, objective, model, task, method, row, device)
                        found.attention += [replace(one, drawn=row in shown) for one in looked]
        found.predictions.append(own)
    return replace(found, epochs=epochs)


def _bag(model: Bags, task: Task, row: int) -> Floats:
    """(N, D): the tiles of all slides of a row."""
    slides = task.bag(row)
    return (
        model.read(slides[0]) if len(slides) == 1 else np.concatenate([model.read(slide) for slide in slides])
    )


def _look(
    trained: nn.Module,
    objective: Objective,
    model: Bags,
    task: Task,
    method: Method,
    row: int,
    device: torch.device,
) -> list[Attention]:
    """The attention to a row, slide by slide; none of a model that has none."""
    with torch.inference_mode():
        outputs, scores, _ = trained(tiles(lambda number: _bag(model, task, number), row, device))
    if scores is None:
        return []
    told = objective.told(outputs[None])[0]
    branch = int(told.argmax()) if len(scores) > 1 else 0
    if task.numbers is None:
        predicted, probability = task.classes[int(told.argmax())], float(told.max())
    else:
        predicted, probability = f"{told[0]:.3g}", None
    found, start = [], 0
    for slide in task.bag(row):
        end = start + model.counts[slide]
        own = scores[branch, start:end].cpu().numpy()
        found.append(
            Attention(model.name, task.name, method, slide, task.answer(row), predicted, probability, own)
        )
        start = end
    return found
