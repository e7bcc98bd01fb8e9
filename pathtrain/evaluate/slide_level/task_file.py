"""The tasks of a benchmark, as a YAML file names them, one file of labels each.

tasks:
  - name: LUAD-EGFR
    labels: luad_egfr.csv    # or a list; beside the YAML unless --labels names a folder
    column: label
    positive: mutant         # of two classes, the one that counts as positive; others count as negative
    split: split             # column of the fixed parts; left out: `split` if there is one
  - {name: Grade, labels: grades.csv, column: isup, kind: ordinal}    # order: [low, mid, high] if no numbers
  - {name: Age, labels: clinical.csv, column: age, kind: regression}
  - {name: OS, labels: clinical.csv, column: OS_MONTHS, event: OS_STATUS, kind: survival}
  - {name: Camelyon16, challenge: camelyon16, labels: reference.csv, column: label}  # see challenges
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from pathprep.errors import UsageError, why
from pathprep.storage import regular
from pathtrain.params.tasks import Asked, Kind, asked
from pathtrain.recipes.text import LARGEST_TEXT, decoded, parsed

BUILT_IN = Path(__file__).parent
Challenge = Literal["camelyon16", "panda"]


class TaskSpec(BaseModel):
    """A task as a YAML file writes it.

    Attributes:
        column: of survival the time's. May be said in one line, as pathtrain.params.tasks reads it.
        kind: None: classes, or numbers if the column holds many.
        event: of survival. other: its column of times without an event, if there are two.
        order: of ordinal, from the lowest; left out if the classes are numbers.
        challenge: whose own table it is; see pathtrain.evaluate.slide_level.challenges.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    labels: list[Path] | None = None
    column: str
    positive: str | None = None
    split: str | None = None
    kind: Kind | None = None
    event: str | None = None
    other: str | None = None
    order: list[str] | None = None
    challenge: Challenge | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("positive", mode="before")
    @classmethod
    def _as_in_the_csv(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("order", mode="before")
    @classmethod
    def _ranks(cls, value: Any) -> Any:
        return [str(one) for one in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "survival") != (self.event is not None):
            raise ValueError(f"task {self.name}: kind survival and event belong together")
        if self.order is not None and self.kind != "ordinal":
            raise ValueError(f"task {self.name}: order is of kind ordinal")
        if self.positive is not None and self.kind not in (None, "classes"):
            raise ValueError(f"task {self.name}: positive is of classes")
        return self

    def asked(self, columns: Collection[str]) -> Asked:
        """What of a table it needs."""
        if self.kind is None:
            return asked(self.column, columns)
        return Asked(self.column, self.kind, self.other, self.event, tuple(self.order or ()))


class TaskFile(BaseModel):
    """A benchmark."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[TaskSpec]


def read_task_file(name: str) -> tuple[Path, list[TaskSpec]]:
    """The file and its tasks.

    Args:
        name: a YAML file, or one that comes with the package: ``exaonepath2``, ``camelyon16-small``,
            ``panda-small``.

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
            f"`tasks` {name}: neither {' or '.join(built_in())} nor a YAML that can be read ({why(error)})"
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


def built_in() -> list[str]:
    """Names of the benchmarks that come with the package."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))
