"""Self-supervised training of a pathology tile encoder on pathprep's datasets.

    import pathtrain

    pathtrain.pretrain("dataset", recipe="smoke")
    model = pathtrain.load("runs/smoke")
    model(tiles)  # (N, H, W, 3) uint8 -> (N, D) float32
    pathtrain.embed(model, "dataset", "features")  # or "slides", as they are
    pathtrain.evaluate.knn(model, "dataset", labels="labels.csv")

Each name is loaded when it is first used: the package itself takes no time to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "LoadedModel",
    "compare",
    "curate",
    "embed",
    "evaluate",
    "export",
    "load",
    "lr_range",
    "pretrain",
    "report",
    "scores",
]

# Where each name is; the imports below say the same to type checkers and editors
_MODULES = {
    "LoadedModel": "pathtrain.runs.model",
    "compare": "pathtrain.reports.compare",
    "curate": "pathtrain.features.curate",
    "embed": "pathtrain.features.embed",
    "export": "pathtrain.runs.export",
    "load": "pathtrain.runs.opening",
    "lr_range": "pathtrain.training.lr_range",
    "pretrain": "pathtrain.training.pretrain",
    "report": "pathtrain.reports.page",
}

if TYPE_CHECKING:
    from pathtrain import evaluate, scores
    from pathtrain.features.curate import curate
    from pathtrain.features.embed import embed
    from pathtrain.reports.compare import compare
    from pathtrain.reports.page import report
    from pathtrain.runs.export import export
    from pathtrain.runs.model import LoadedModel
    from pathtrain.runs.opening import load
    from pathtrain.training.lr_range import lr_range
    from pathtrain.training.pretrain import pretrain


def __getattr__(name: str) -> Any:
    if name in ("evaluate", "scores"):
        return import_module(f"pathtrain.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
