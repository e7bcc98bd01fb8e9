"""What the study of slide labels compares: three stages, trained or not, from random weights or DINO's.

    random frozen            stage 1 stays random; stages 2 and 3 learn from slide labels
    DINO frozen              stage 1 as DINO left it
    DINO, end to end         slide labels train stage 1 too, from there
    random, end to end       and from random weights
    DINO, mean-pooled        logistic regression on the mean of DINO's features of a slide's tiles
    random, mean-pooled      the same of random weights
    colour, patterns         the same of handmade features (core/encoders.py)

DINO is one run on tiles of originals that no slide holds. All arms have the same slides, regions, batches and
steps, in the same order, and a grid of values of the same length for learning rate or C.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.dataset.reader import Dataset
from pathtrain.data.slide_labels import SlideLabels, read
from pathtrain.data.slide_stream import SlideIndex
from pathtrain.methods.task_scorer import TaskScorer
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.recipes.strict import Count, Positive, Strict
from pathtrain.runs import milestones
from pathtrain.runs.hierarchical import open_run
from small.core.training import Job
from small.slide_labels.cohort import TASKS

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Number = Annotated[int, Field(gt=0)]
Predictions = dict[str, Doubles]  # task -> (S, C) probabilities

RECIPE = "exaonepath2-tiny"
RANDOM_FROZEN, DINO_FROZEN = "random frozen", "DINO frozen"
DINO_TRAINED, RANDOM_TRAINED = "DINO, end to end", "random, end to end"
TRAINED = (RANDOM_FROZEN, DINO_FROZEN, DINO_TRAINED, RANDOM_TRAINED)
POOLED, RANDOM_POOLED = "DINO, mean-pooled", "random, mean-pooled"
DINO = "slides-dino"


class TrainingSettings(Strict):
    """What is trained, and what is tried on the inner slides.

    Attributes:
        dino_steps, dino_batch, dino_lr: of DINO on tiles, with the views and the head of exaonepath2-tiny.
        steps, batch: of slides, of all arms.
        draw: regions of 2 x 2 cells that a step takes of each slide; null for all: a part of a tumour's slide
            may hold no tumour.
        rates: peak learning rates that are tried, of the arms of three stages.
        strengths: C of logistic regression that are tried, of the others; as many.
        seeds: of stages 2 and 3, and of random weights; DINO's is one run.
    """

    dino_steps: Number = 1500
    dino_batch: Number = 32
    dino_lr: Positive = 0.0005
    steps: Number = 200
    batch: Number = 16
    draw: Number | None = None
    warmup_steps: Count = 20
    rates: tuple[Positive, ...] = Field((0.0003, 0.001), min_length=1)
    strengths: tuple[Positive, ...] = Field((0.01, 0.3), min_length=1)
    seeds: Number = 1


def recipe() -> HierarchicalRecipe:
    """The study's."""
    found = load(RECIPE)
    assert isinstance(found, HierarchicalRecipe)
    return found


def dino_job(data: Path, settings: TrainingSettings) -> Job:
    """DINO on tiles: the networks, views and head of the recipe's stage 1, turned as tissue may be."""
    own = recipe()
    views = own.views.model_dump(mode="json") | {"flip_vertical": 0.5, "turn": 0.75}
    changes = {
        "model": own.model.model_dump(mode="json"),
        "views": views,
        "dino": own.dino.model_dump(mode="json"),
        "steps": settings.dino_steps,
        "batch": settings.dino_batch,
        "optim.lr": settings.dino_lr,
        "optim.warmup_steps": min(50, settings.dino_steps // 10),
        "checkpoint": {"every": settings.dino_steps, "keep": 1, "milestones": settings.dino_steps},
        "log_every": 25,
    }
    return Job(DINO, "smoke", data, _said(changes))


def encoder_of(run: Path) -> Path:
    """The folder of DINO's teacher, as stage 1 begins with it."""
    return milestones.entries(run)[-1][1]


def job(
    name: str,
    arm: str,
    data: Path,
    labels: Path,
    rate: float,
    seed: int,
    settings: TrainingSettings,
    start: Path,
) -> Job:
    """A training of three stages with slide labels alone.

    Args:
        arm: one of TRAINED. labels: of the training slides. rate: peak of the learning rate.
        start: DINO's encoder, for the arms that have it.
    """
    last = recipe().hierarchy.phases[-1].model_dump(mode="json")
    slide = last["slide"] | {
        "batch": settings.batch,
        "draw": settings.draw,
        "stage1": "trained" if arm in (DINO_TRAINED, RANDOM_TRAINED) else "frozen",
        "weight": 1.0,
    }
    phase = last | {
        "steps": settings.steps,
        "tile": None,
        "region": None,
        "slide": slide,
        "validate_every": None,
    }
    changes = {
        "seed": seed,
        "stain": {"mode": "none"},  # the tiles are grey
        "hierarchy.tasks": list(TASKS),
        "hierarchy.phases": [phase],
        "optim.lr": rate,
        "optim.warmup_steps": settings.warmup_steps,
        "model.init": str(start) if arm in (DINO_FROZEN, DINO_TRAINED) else "random",
        "checkpoint": {"every": settings.steps, "keep": 1},
        "log_every": 25,
    }
    return Job(name, RECIPE, data, _said(changes), labels)


def _said(changes: dict[str, object]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in changes.items())


def asked(run: Path, data: Path, labels: Path, slides: Sequence[str]) -> Predictions:
    """What a run's heads say of some slides of the dataset, in their order."""
    method, _ = open_run(run, torch.device("cpu"))
    dataset = Dataset(data)
    learnt = read(
        labels, set(slides) | {name for name, count in dataset.tile_counts().items() if count}, TASKS
    )
    unknown = np.full((len(slides), len(learnt.tasks)), -1, np.int64)
    wanted = SlideLabels(labels, learnt.tasks, tuple(slides), unknown, ("test",) * len(slides))
    scorer = TaskScorer(method, SlideIndex(dataset), wanted, None, threads=1)
    found = list(scorer.probabilities(np.arange(len(slides))))
    return {
        task.name: np.stack(said) for task, said in zip(learnt.tasks, zip(*found, strict=True), strict=True)
    }


def pooled(features: Floats, group: Sequence[str], slides: Sequence[str]) -> Floats:
    """(S, D) mean of the features (N, D) of each slide's tiles, in the order of ``slides``."""
    of = np.array(group)
    return np.stack([features[of == name].mean(axis=0) for name in slides])


def regression(x: Floats, y: Sequence[str], x_test: Floats, strength: float) -> Doubles:
    """(S, C) probabilities of a logistic regression on standardised features; classes in their order by name.

    Args:
        x: (F, D). y: (F) class names, empty where unknown.
    """
    known = np.array(y) != ""
    layer = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    model = make_pipeline(StandardScaler(), layer).fit(x[known].astype(np.float64), np.array(y)[known])
    return np.asarray(model.predict_proba(x_test.astype(np.float64)), np.float64)


def classes(rows: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Task -> its classes by name, in the order of what is predicted."""
    return {task: sorted({row[task] for row in rows} - {""}) for task in TASKS}
