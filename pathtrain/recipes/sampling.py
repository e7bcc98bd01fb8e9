"""What a recipe says about which tiles are drawn how often."""

from pathlib import Path
from typing import Any, Self

from pydantic import field_validator, model_validator

from pathtrain.recipes.strict import Positive, Strict


class SamplingConfig(Strict):
    """How often each tile comes, of a hierarchical run in DINO on tiles; see pathtrain.data.sampling.

    Attributes:
        by: ``tile``: every tile once an epoch. ``slide``: a slide is drawn first, every one equally often,
            then a tile of it. A column, such as ``label``: the same with its values; it is one of the
            dataset's index, or of ``table``. The tiles of a slide or value each come once before one comes
            again.
        weights: how often a slide or value is drawn against others; those that are not named have 1.
        table: CSV or Parquet of slides: slide_id, and the column ``by``. Or, with ``by: cluster``, what
            `pathtrain curate` writes: a cluster of the coarsest level is drawn first, every one equally
            often, then one of the next level within it, and so on, then a tile.
        datasets: of several datasets, one is drawn first, so often against the others; those that are not
            named have 1. A dataset is named by its folder. null: they are one pool.
        mpps: once a slide (or value) is drawn, one of its resolutions is, so often against the others; every
            resolution is named, in micrometres per pixel. null: tiles of all resolutions are one pool.
    """

    by: str = "tile"
    weights: dict[str, Positive] | None = None
    table: Path | None = None
    datasets: dict[str, Positive] | None = None
    mpps: dict[Positive, Positive] | None = None

    @field_validator("weights", mode="before")
    @classmethod
    def _named(cls, weights: Any) -> Any:
        """Values of columns may be numbers, which are named as the column shows them."""
        return (
            {str(name): weight for name, weight in weights.items()} if isinstance(weights, dict) else weights
        )

    @field_validator("datasets", "mpps")
    @classmethod
    def _some(cls, weights: dict[Any, float] | None) -> dict[Any, float] | None:
        if weights is not None and not weights:
            raise ValueError("names none: give weights, or null")
        return weights

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if self.weights and self.by == "tile":
            raise ValueError("weights are of slides or of a column's values: set by")
        if self.table is not None and self.by in ("tile", "slide"):
            raise ValueError(f"table has a column to draw by; by is {self.by}")
        return self

    @property
    def draws(self) -> str:
        """The key by which tiles are drawn, for messages; empty where every tile comes once an epoch."""
        if self.by != "tile":
            return f"by={self.by}"
        return "datasets" if self.datasets else "mpps" if self.mpps else ""
