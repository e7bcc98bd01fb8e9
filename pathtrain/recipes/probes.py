"""What a recipe may say of probes: measures of the teacher's encoder while it trains."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pathprep.params.origin import AskedOrigin
from pathtrain.recipes.strict import Strict

Name = Annotated[str, Field(pattern="^[a-z0-9_-]+$")]


class ProbeConfig(Strict):
    """What every probe has.

    Attributes:
        kind: what is measured.
        every: steps between two measurements; there is one before the first step and one at the end as well.
        name: small letters, digits, _ and -; figures are ``<kind>_<name>_...``, or ``<kind>_...``.
    """

    kind: str
    every: int = Field(gt=0)
    name: Name | None = None

    @property
    def key(self) -> str:
        """What its figures begin with in the log."""
        return self.kind if self.name is None else f"{self.kind}_{self.name}"


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


class KnnProbe(ProbeConfig):
    """How well a tile's label follows from its neighbours, as `pathtrain evaluate knn` measures it.

    Attributes:
        train: labelled tiles that vote: a dataset, or a folder of images with a labels.csv.
        test: those that are asked; null: all of ``train``, without votes of a tile's own slide or group.
        labels: of datasets of slides: a CSV, or a folder of GeoJSON.
        label_origin: of GeoJSON on slides with bounds, where it does not say its own.
        k: neighbours that vote.
        tiles: of each of the sets at most, drawn with the recipe's seed.
    """

    kind: Literal["knn"]
    train: Path
    test: Path | None = None
    labels: Path | None = None
    label_origin: AskedOrigin = "auto"
    k: int = Field(default=20, gt=0)
    tiles: int = Field(default=2000, ge=2)


class RankProbe(ProbeConfig):
    """How many directions the features of some tiles use (RankMe), and their SD.

    Attributes:
        dataset: null: the training data.
        tiles: so many, drawn with the recipe's seed; the rank is at most this, and at most the features'
            number.
    """

    kind: Literal["rank"]
    dataset: Path | None = None
    tiles: int = Field(default=2000, ge=2)


class RobustnessProbe(ProbeConfig):
    """Whether neighbours share the class or a column, as `pathtrain evaluate robustness` measures it.

    Attributes:
        data: labelled tiles: a dataset, a folder of images with a labels.csv, or Parquet of images.
        by: the column of centre, scanner or stain. group: that of patients; null: the data's own groups.
        columns: a table with these columns, by slide, tile or file. names: a pattern on the files' names.
        labels: of datasets of slides: a CSV, or a folder of GeoJSON.
        k: neighbours; null: those at which they tell the label best, at most 101, at each measurement.
        tiles: at most so many, drawn with the recipe's seed, the same each time.
    """

    kind: Literal["robustness"]
    data: Path
    by: str
    group: str | None = None
    columns: Path | None = None
    names: str | None = None
    labels: Path | None = None
    k: int | None = Field(default=None, gt=0)
    tiles: int = Field(default=2000, ge=4)


Probe = Annotated[CollapseProbe | KnnProbe | RankProbe | RobustnessProbe, Field(discriminator="kind")]
