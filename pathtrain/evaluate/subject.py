"""What an evaluation is of: a model that gives a vector per tile."""

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
