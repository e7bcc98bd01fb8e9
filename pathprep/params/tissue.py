"""Parameters of the search for tissue."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pathprep.params.settings import Setting

PANEL = "Tissue"
PIECE_UM2 = 128.0**2  # one tile of 256 px at 0.5 MPP
# ... but no more than so much of the slide: a TMA core or a field of 250 um is not swallowed whole
PIECE_SHARE = 1 / 16

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
        min_piece: square micrometres; smaller pieces are dropped, and counted. None: PIECE_UM2, or
            PIECE_SHARE of the slide if that is less.
        max_hole: square micrometres; smaller holes are filled. Default: a quarter of such a tile (CLAM
            fills larger ones; here tiles are kept by their share of tissue, so a white one must show).
    """

    method: Annotated[TissueMethod, Setting("Threshold of the saturation.", PANEL, "tissue")] = "threshold"
    threshold: Annotated[int, Setting("Saturation of tissue, 0 to 255.", PANEL, "tissue_threshold")] = 8
    median: int = 7
    closing: int = 4
    min_piece: Annotated[
        float | None,
        Setting(
            "Drop pieces of tissue smaller than so many square micrometres. Default: 16384 (128 x 128), or a "
            "sixteenth of the slide if that is less.",
            PANEL,
        ),
    ] = None
    max_hole: float = 64.0**2

    def smallest(self, slide: float) -> float:
        """Area of the smallest piece that stays, on a slide of so many square micrometres."""
        return min(PIECE_UM2, PIECE_SHARE * slide) if self.min_piece is None else self.min_piece
