"""What an evaluation is of: a model that gives a vector per tile, and what it is called."""

from pathlib import Path

from pathprep.errors import UsageError
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.runs.opening import opened


def vectors_of(model: Model, how: How) -> LoadedModel:
    """The model with the weights and read-out that are asked for.

    Raises:
        UsageError: the read-out is of patches, or as ``opened``.
        ModelError, CheckpointError: it cannot be read.
    """
    found = opened(model, how.weights, how.readout)
    if found.readout == "patches":
        raise UsageError("`readout` patches: an evaluation needs a vector per tile; give cls or mean")
    return found


def called(model: Model) -> tuple[str | None, Model]:
    """A model, and the name that is asked for by ``NAME=MODEL``; None for its own."""
    if isinstance(model, LoadedModel):
        return None, model
    name, equals, place = str(model).partition("=")
    return (name, place) if equals and name and place and not Path(model).exists() else (None, model)
