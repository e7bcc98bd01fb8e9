"""The tasks of a benchmark, as a YAML file names them, one file of labels each.

tasks:
  - name: LUAD-EGFR
    labels: luad_egfr.csv    # or a list; beside the YAML unless --labels names a folder
    column: label
    positive: mutant         # of two classes, the one that counts as positive; others count as negative
    split: split             # column of the fixed parts; left out: `split` if there is one
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pathprep.errors import UsageError, why
from pathprep.storage import regular
from pathtrain.recipes.text import LARGEST_TEXT, decoded, parsed

BUILT_IN = Path(__file__).parent


class TaskSpec(BaseModel):
    """A task as a YAML file writes it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    labels: list[Path] | None = None
    column: str
    positive: str | None = None
    split: str | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("positive", mode="before")
    @classmethod
    def _as_in_the_csv(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class TaskFile(BaseModel):
    """A benchmark."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[TaskSpec]


def read_task_file(name: str) -> tuple[Path, list[TaskSpec]]:
    """The file and its tasks.

    Args:
        name: a YAML file, or one that comes with the package: ``exaonepath2``.

    Raises:
        UsageError: it cannot be read, or is not such a file.
    """
    path = Path(name)
    if not path.is_file() and name == path.stem and (BUILT_IN / f"{name}.yaml").is_file():
        path = BUILT_IN / f"{name}.yaml"
    try:
        values = parsed(decoded(regular.read(path, LARGEST_TEXT)))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"`tasks` {name}: neither exaonepath2 nor a YAML that can be read ({why(error)})"
        ) from None
    try:
        specs = TaskFile.model_validate(values).tasks
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path}: {where}: {first['msg']}") from None
    twice = sorted({s.name for s in specs if [t.name for t in specs].count(s.name) > 1})
    if twice or not specs:
        raise UsageError(f"{path}: " + (f"task {twice[0]} is there twice" if twice else "names no task"))
    return path, specs
