"""Parameters of the search for tissue."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pathprep.params.settings import Setting

PANEL = "Tissue"

TissueMethod = Literal["threshold", "otsu"]


@dataclass(frozen=True)
class TissueParams:
    """Settings of the segmentation; pixel counts are those of the overview, as in CLAM.

    Attributes:
        method: ``threshold`` (CLAM's default) or ``otsu``. Otsu always splits, also a field that is
            tissue everywhere, hence not the default.
        threshold: saturation, 0 to 255, above which a pixel is tissue (CLAM: 8).
        median: side of the median filter (CLAM: 7).
        closing: side of the square closing (CLAM: 4).
        min_area: square micrometres; smaller pieces are dropped. Default: one 256 px tile at 0.5 MPP.
        max_hole: square micrometres; smaller holes are filled. Default: a quarter of such a tile (CLAM
            fills larger ones; here tiles are kept by their share of tissue, so a white one must show).
    """

    method: Annotated[TissueMethod, Setting("Threshold of the saturation.", PANEL, "tissue")] = "threshold"
    threshold: Annotated[int, Setting("Saturation of tissue, 0 to 255.", PANEL, "tissue_threshold")] = 8
    median: int = 7
    closing: int = 4
    min_area: float = 128.0**2
    max_hole: float = 64.0**2
