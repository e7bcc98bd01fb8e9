"""Parameters of Macenko normalisation, as a dataset is made with them."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pathprep.params.settings import Setting

if TYPE_CHECKING:
    from pathprep.stain import Target

PANEL = "Stain"
# What tiles are normalised to if nothing else is named: stain vectors (3, 2), R G B by haematoxylin and
# eosin, and 99th percentiles of their concentrations, as the field's implementations share them
# (mitkovetta's, torchstain's)
REFERENCE = {"he": [[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]], "max_c": [1.9705, 1.0308]}

StainMode = Literal["bake", "fit", "none"]
StainPixels = Literal["all", "any"]


@dataclass(frozen=True)
class StainParams:
    """Macenko normalisation: ``bake`` stores normalised tiles, ``fit`` plain tiles and their fits.

    Attributes:
        keep: a pixel is tissue if ``all`` (canonical) or ``any`` of its channels reach ``beta``.
        alpha: percentile of the extreme angles. beta: optical density. io: transmitted light.
        target: what tiles are normalised to; None for the field's reference.
    """

    mode: Annotated[
        StainMode,
        Setting(
            "bake: store normalised tiles; fit: store the fits beside plain tiles; none.", PANEL, "stain"
        ),
    ] = "bake"
    keep: Annotated[
        StainPixels,
        Setting(
            "Fit on pixels with all (canonical) or any channels above `stain_beta`.", PANEL, "stain_keep"
        ),
    ] = "all"
    alpha: float = 1.0
    beta: Annotated[
        float, Setting("Optical density above which a pixel is stained.", PANEL, "stain_beta")
    ] = 0.15
    io: float = 240.0
    target: "Target | None" = None

    def as_dict(self) -> dict[str, Any]:
        """What is written to dataset.json and hashed: only what shapes what is stored."""
        if self.mode == "none":
            return {"mode": "none"}
        values = {**asdict(self), "target": self.target.as_params() if self.target else REFERENCE}
        if self.mode == "fit":
            # the target shapes no pixel that is stored
            del values["target"]
        return values
