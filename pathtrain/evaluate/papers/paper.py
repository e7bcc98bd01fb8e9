"""Tables of papers as data: which evaluations their columns are, and the published rows, with their sources.

A paper is a YAML file beside this one. Quick to import: without torch.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pathprep.errors import UsageError
from pathprep.storage import regular
from pathtrain.models.public.registry import entries
from pathtrain.recipes.text import LARGEST_TEXT, decoded, parsed

HERE = Path(__file__).parent
PAPERS = ("exaonepath1", "exaonepath2", "midnight", "robustness")
Evaluation = Literal["linear", "segmentation", "hest", "slides", "robustness"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Strict):
    """A column of a table.

    Attributes:
        title: its heading.
        evaluation: the command of `pathtrain evaluate` that measures it.
        figure: its key in that command's rows.
        data: which data it is measured on; columns of one data, evaluation and settings are measured
            together. Empty: the column's own key.
        source: what its data are given besides, where the study file does not say otherwise.
        settings: of that command, by their flat names, where the paper's are not its defaults.
        note: what is trained and tested on, where the title does not say.
        lower: whether lower figures are better.
    """

    title: str
    evaluation: Evaluation
    figure: str
    data: str = ""
    source: dict[str, str] = Field(default={})
    settings: dict[str, Any] = Field(default={})
    note: str = ""
    lower: bool = False


class Row(_Strict):
    """A published row.

    Attributes:
        name: of the model, as the paper has it.
        encoder: its key among the public encoders, if it is one.
        millions: of its parameters, where it is none.
        slides: that it was trained on, if that is published.
        own: whether it is the paper's own model.
        figures: by column, in their order; null where the paper has none.
    """

    name: str
    encoder: str | None = None
    millions: float | None = None
    slides: int | None = None
    own: bool = False
    figures: tuple[Annotated[float, Field(ge=-1, le=1)] | None, ...]

    @property
    def parameters(self) -> int | None:
        """Of its backbone, as published."""
        millions = self.millions if self.encoder is None else entries()[self.encoder].parameters
        return None if millions is None else round(millions * 1e6)


class Paper(_Strict):
    """A table.

    Attributes:
        title: paper and table. sources: where the rows are written.
        figure: what its figures are, in words.
        notes: what whoever compares should know.
        settings: of all its evaluations that have them, such as the read-out.
        columns: by key, in their order. rows: as published.
    """

    title: str
    sources: tuple[str, ...] = Field(min_length=1)
    figure: str
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default={})
    columns: dict[str, Column] = Field(min_length=1)
    rows: tuple[Row, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for row in self.rows:
            if len(row.figures) != len(self.columns):
                raise ValueError(f"{row.name}: {len(row.figures)} figures for {len(self.columns)} columns")
            if row.encoder is not None and row.encoder not in entries():
                raise ValueError(f"{row.name}: no public encoder is called {row.encoder}")
        return self

    def data(self, key: str) -> str:
        """The data that a column is measured on."""
        return self.columns[key].data or key

    @property
    def datas(self) -> list[str]:
        """All its data, in the order of the columns."""
        return list(dict.fromkeys(self.data(key) for key in self.columns))

    def published(self, row: Row) -> dict[str, float]:
        """A row's figures by column, without those that are not published."""
        pairs = zip(self.columns, row.figures, strict=True)
        return {key: figure for key, figure in pairs if figure is not None}


@cache
def read(name: str) -> Paper:
    """A paper's table.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in PAPERS:
        raise UsageError(f"`paper` {name}: give {', '.join(PAPERS[:-1])} or {PAPERS[-1]}")
    path = HERE / f"{name}.yaml"
    try:
        return Paper.model_validate(parsed(decoded(regular.read(path, LARGEST_TEXT))))
    except ValidationError as error:  # of an installation that was changed
        raise UsageError(f"{path}: {error.errors()[0]['msg']}") from None
