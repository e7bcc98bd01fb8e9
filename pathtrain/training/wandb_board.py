"""Weights & Biases, if its package is installed: the rows of log.jsonl, live on its page."""

import importlib
import json
import secrets
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError
from pathprep.storage import atomic, regular


def check() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("wandb")
    except ModuleNotFoundError:
        raise UsageError("`wandb`: the package wandb is not installed: pip install wandb") from None


class Wandb:
    """One run on its page; a run that is resumed goes on there (RUN/wandb.json holds its id).

    Args:
        project: the project's name.
        run: the run's folder.
        config: shown beside the curves.
    """

    def __init__(self, project: str, run: Path, config: dict[str, Any]) -> None:
        package, path = check(), run / "wandb.json"
        try:
            identity = json.loads(regular.read(path))["id"]
        except (OSError, ValueError, KeyError):
            identity = secrets.token_hex(8)
            atomic.write_json(path, {"id": identity, "project": project})
        self._run = package.init(
            project=project, id=identity, name=run.resolve().name, dir=str(run), resume="allow", config=config
        )

    def log(self, row: dict[str, Any]) -> None:
        """A row of log.jsonl."""
        values = {name: value for name, value in row.items() if name != "step" and value is not None}
        self._run.log(values, step=int(row["step"]))

    def close(self) -> None:
        """End it."""
        self._run.finish()
