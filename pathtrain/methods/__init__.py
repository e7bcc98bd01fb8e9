"""Training methods: a recipe's ``method`` names one.

A method is a recipe (a subclass of pathtrain.recipes.recipe.Recipe, named in pathtrain.recipes.load) and a
``Setup`` (pathtrain.methods.base), named here. Nothing in pathtrain.training knows of it.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathtrain.methods.base import Setup

# name -> module and class; imported when a run needs it
METHODS = {
    "dino": "pathtrain.methods.dino:DinoSetup",
    "dinov2": "pathtrain.methods.dinov2_setup:Dinov2Setup",
    "hierarchical": "pathtrain.methods.hierarchical_setup:HierarchicalSetup",
}


def setup(recipe: Any, data: Any, labels: Path | None = None) -> "Setup":
    """The recipe's method on a run's data; see pathtrain.methods.base.Setup for arguments and errors."""
    module, _, name = METHODS[recipe.method].partition(":")
    kind: type[Setup] = getattr(import_module(module), name)
    return kind(recipe, data, labels)
