"""What training raises on purpose, beside pathprep's own errors.

PathprepError
├── UsageError (pathprep)   wrong options (exit code 2)
└── TrainError              training cannot start or go on
    ├── RecipeError         a recipe or an override is wrong (exit code 2)
    ├── CheckpointError     a run folder does not fit, or none of its checkpoints can be used
    ├── RunBusyError        another process trains in the run folder
    ├── PeerError           another process of the same run stopped
    ├── CollapseError       the run has looked collapsed for long (exit code 76)
    └── ModelError          an architecture or its weights cannot be had
        └── NoModelError        what was given is not there, or neither a run nor a model (exit code 2)
"""

from pathprep.errors import PathprepError, UsageError


class TrainError(PathprepError):
    """Training cannot start or go on."""


class RecipeError(TrainError, UsageError):
    """A recipe, or a value that goes before one of its own, is wrong; one line per key, naming it."""

    several = True


class CheckpointError(TrainError):
    """A run folder belongs to another recipe or dataset, or none of its checkpoints is intact."""


class RunBusyError(TrainError):
    """Another process trains in the run folder, or it cannot be locked."""


class PeerError(TrainError):
    """Another process of the same run stopped; the cause is in that one's message."""


class CollapseError(TrainError):
    """With ``stop_on_collapse``: it looked collapsed for ``warn_after`` steps; a checkpoint was written."""

    exit_code = 76


class ModelError(TrainError):
    """An architecture is unknown, or its weights cannot be had or do not fit."""


class NoModelError(ModelError, UsageError):
    """What was given as a run or a model is not there, or is none."""
