"""Scores of tiles from their features: classes, clusters, likeness; a file of scores each.

``pathprep view`` and ``pathprep overlay`` show them. Attention is written by ``pathtrain evaluate slides``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["classes", "clusters", "similar"]

# Where each name is; the imports below say the same to type checkers and editors
_MODULES = {
    "classes": "pathtrain.scores.by_class",
    "clusters": "pathtrain.scores.by_cluster",
    "similar": "pathtrain.scores.by_likeness",
}

if TYPE_CHECKING:
    from pathtrain.scores.by_class import classes
    from pathtrain.scores.by_cluster import clusters
    from pathtrain.scores.by_likeness import similar


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found
