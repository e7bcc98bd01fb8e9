"""Evaluations of a frozen encoder, each with the numbers that an untrained one or chance would give.

    from pathtrain import evaluate

    result = evaluate.knn("runs/smoke", "dataset", labels="labels.csv", k=20)
    result["results"][0]["accuracy"]

Each gives its result as data that JSON can write, and is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "collapse",
    "few_shot",
    "hest",
    "invariance",
    "knn",
    "linear",
    "panels",
    "perturbation",
    "retrieval",
    "robustness",
    "segmentation",
    "slides",
    "table",
    "tasks",
]

# Where each name is; the imports below say the same to type checkers and editors
_MODULES = {
    "collapse": "pathtrain.evaluate.tile_level.collapse",
    "few_shot": "pathtrain.evaluate.tile_level.few_shot",
    "hest": "pathtrain.evaluate.expression.study",
    "invariance": "pathtrain.evaluate.tile_level.invariance",
    "knn": "pathtrain.evaluate.tile_level.knn",
    "linear": "pathtrain.evaluate.tile_level.linear",
    "panels": "pathtrain.evaluate.papers.collapse_panels",
    "perturbation": "pathtrain.evaluate.shifts.perturbation",
    "retrieval": "pathtrain.evaluate.tile_level.retrieval",
    "robustness": "pathtrain.evaluate.shifts.study",
    "segmentation": "pathtrain.evaluate.pixel_level.study",
    "slides": "pathtrain.evaluate.slide_level.study",
    "table": "pathtrain.evaluate.papers.table",
    "tasks": "pathtrain.evaluate.slide_level.heads",
}

if TYPE_CHECKING:
    from pathtrain.evaluate.expression.study import hest
    from pathtrain.evaluate.papers.collapse_panels import panels
    from pathtrain.evaluate.papers.table import table
    from pathtrain.evaluate.pixel_level.study import segmentation
    from pathtrain.evaluate.shifts.perturbation import perturbation
    from pathtrain.evaluate.shifts.study import robustness
    from pathtrain.evaluate.slide_level.heads import tasks
    from pathtrain.evaluate.slide_level.study import slides
    from pathtrain.evaluate.tile_level.collapse import collapse
    from pathtrain.evaluate.tile_level.few_shot import few_shot
    from pathtrain.evaluate.tile_level.invariance import invariance
    from pathtrain.evaluate.tile_level.knn import knn
    from pathtrain.evaluate.tile_level.linear import linear
    from pathtrain.evaluate.tile_level.retrieval import retrieval


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
