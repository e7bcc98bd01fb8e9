"""``pathtrain export``: a run as a folder that plain timm opens (pathtrain.runs.model_folder)."""

from pathlib import Path

from pathprep.errors import UsageError
from pathprep.storage.json_files import read_json
from pathprep.storage.place import local_folder
from pathtrain.errors import ModelError
from pathtrain.models.folder import CONFIG_FILE, CREATOR, is_model
from pathtrain.runs.average import average as mean
from pathtrain.runs.described import RECIPE_FILE
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.model_folder import write
from pathtrain.runs.opening import load


def export(run: str | Path, out: str | Path = "model", *, average: int | None = None) -> LoadedModel:
    """Write the teacher's backbone of a run's newest checkpoint to the folder ``out``.

    An earlier export at ``out`` is replaced.

    Args:
        average: write the mean of the last so many encoders that the run has kept, checkpoints and milestones
            (pathtrain.runs.average).

    Returns:
        The model that was written.

    Raises:
        ModelError: ``run`` is not a run folder, or has kept fewer encoders.
        CheckpointError: it has no intact checkpoint.
        UsageError: ``out`` exists and is not an export.
        OSError: it cannot be written; an earlier export is as it was.
    """
    run, out = Path(run), local_folder(out)
    if average is not None and not is_model(run) and (run / RECIPE_FILE).is_file():
        model = mean(run, average)
    else:
        model = load(run)  # which says what is wrong
    if model.run is None:
        raise ModelError(f"{run}: already an exported model; give the run folder it came from")
    if out.exists() and not _is_export(out):
        raise UsageError(f"{out}: exists and is not an exported model; give another `out` or remove it")
    write(model, run, out)
    return model


def _is_export(path: Path) -> bool:
    """Whether an export may be written there: into an empty folder, or over one of ours, damaged or not."""
    if path.is_dir() and not any(path.iterdir()):
        return True
    return (read_json(path / CONFIG_FILE) or {}).get("creator") == CREATOR
