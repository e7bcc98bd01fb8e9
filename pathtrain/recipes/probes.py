"""What a recipe may say of probes: measures of the teacher's encoder while it trains."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pathtrain.recipes.strict import Strict

Name = Annotated[str, Field(pattern="^[a-z0-9_-]+$")]


class ProbeConfig(Strict):
    """What every probe has.

    Attributes:
        every: steps between two measurements; there is one before the first step and one at the end as well.
        name: small letters, digits, _ and -; figures are called ``<kind>_<name>_...``, or ``<kind>_...``.
    """

    every: int = Field(gt=0)
    name: Name | None = None

    @property
    def key(self) -> str:
        """What its figures begin with in the log."""
        kind: str = getattr(self, "kind")  # noqa: B009
        return kind if self.name is None else f"{kind}_{self.name}"


class CollapseProbe(ProbeConfig):
    """Whether the encoder groups tiles by slide, on slides that training does not see.

    Attributes:
        dataset: of other slides; null: slides of the training data are held out of it, drawn with the
            recipe's seed when the run begins, and none that have labels.
        slides: how many slides; of the training data no more than a tenth, but at least 2.
        tiles: of each of them.
    """

    kind: Literal["collapse"]
    dataset: Path | None = None
    slides: int = Field(default=10, ge=2)
    tiles: int = Field(default=100, ge=2)


Probe = CollapseProbe
