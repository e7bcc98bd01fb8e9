"""Parameters of the search for tissue."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pathprep.params.settings import Setting

PANEL = "Tissue"
PIECE_UM2 = 128.0**2  # one tile of 256 px at 0.5 MPP
# ... but no more than so much of the slide: a TMA core or a field of 250 um is not swallowed whole
PIECE_SHARE = 1 / 16

TissueMethod = Literal["stained", "threshold", "otsu"]
# Of each method: saturation of tissue, side of the closing. CLAM's are 8 and 4
THRESHOLDS = {"stained": 5, "threshold": 8, "otsu": 8}
CLOSINGS = {"stained": 9, "threshold": 4, "otsu": 4}


@dataclass(frozen=True)
class TissueParams:
    """Settings of the segmentation; pixel counts are those of the overview, as in CLAM.

    Attributes:
        method: ``stained``: what is stained on average around a pixel, above the light of the glass there, so
            that fat and faint stains are found; ``threshold``: CLAM's, of the median; ``otsu``: the same with
            Otsu's threshold, which always splits, also a field that is tissue everywhere.
        threshold: saturation, 0 to 255, above which a pixel is tissue; None: that of THRESHOLDS.
        median: side of the square around a pixel (CLAM: 7).
        closing: side of the square closing; None: that of CLOSINGS. 9 are 72 um: a fat cell.
        min_piece: square micrometres; smaller pieces are dropped, and counted. None: PIECE_UM2, or
            PIECE_SHARE of the slide if that is less.
        max_hole: square micrometres; smaller holes are filled. Default: a quarter of such a tile (CLAM
            fills larger ones; here tiles are kept by their share of tissue, so a white one must show).
    """

    method: Annotated[
        TissueMethod,
        Setting(
            "How: stained (fat and faint stains too), or as CLAM does, by a fixed threshold or Otsu's.",
            PANEL,
            "tissue",
        ),
    ] = "stained"
    threshold: Annotated[
        int | None,
        Setting("Saturation of tissue, 0 to 255. Default: 5, or 8 as CLAM.", PANEL, "tissue_threshold"),
    ] = None
    median: int = 7
    closing: int | None = None
    min_piece: Annotated[
        float | None,
        Setting(
            "Drop pieces of tissue smaller than so many square micrometres. Default: 16384 (128 x 128), or a "
            "sixteenth of the slide if that is less.",
            PANEL,
        ),
    ] = None
    max_hole: float = 64.0**2

    @property
    def level(self) -> int:
        """The threshold that is used."""
        return THRESHOLDS[self.method] if self.threshold is None else self.threshold

    @property
    def closed(self) -> int:
        """The side of the closing that is used."""
        return CLOSINGS[self.method] if self.closing is None else self.closing

    def as_dict(self) -> dict[str, Any]:
        """What is written and hashed: a default that is left out is as one that is given."""
        return {**asdict(self), "threshold": self.level, "closing": self.closed}

    def smallest(self, slide: float) -> float:
        """Area of the smallest piece that stays, on a slide of so many square micrometres."""
        return min(PIECE_UM2, PIECE_SHARE * slide) if self.min_piece is None else self.min_piece
