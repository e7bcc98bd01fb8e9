"""Parameters of the search for tissue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pathprep.errors import UsageError
from pathprep.params import tissue_model
from pathprep.params.settings import Setting
from pathprep.params.tissue_model import TissueModel

PANEL = "Tissue"
PIECE_UM2 = 128.0**2  # one tile of 256 px at 0.5 MPP
# ... but no more than so much of the slide: a TMA core or a field of 250 um is not swallowed whole
PIECE_SHARE = 1 / 16

TissueMethod = Literal["stained", "threshold", "otsu"]
TissueDevice = Literal["cpu", "cuda"]
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
        model: file of a tissue model; then ``method``, ``threshold`` and ``closing`` are refused.
        device: where it runs.
        described: the model; read from its file if that is given.
    """

    method: Annotated[
        TissueMethod,
        Setting(
            "How: stained (fat and faint stains too), or as CLAM: a fixed threshold, or Otsu's.",
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
    model: Annotated[
        Path | None,
        Setting(
            "An ONNX model that finds tissue, instead; a YAML file beside it says what it takes and gives.",
            PANEL,
            "tissue_model",
            metavar="FILE.onnx",
        ),
    ] = field(default=None, compare=False)
    device: Annotated[
        TissueDevice,
        Setting("Where `tissue_model` runs; cuda: with onnxruntime-gpu.", PANEL, "tissue_device"),
    ] = "cpu"
    described: TissueModel | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.described is None:
            object.__setattr__(self, "described", tissue_model.read(Path(self.model).absolute()))
        if self.device != "cpu" and self.described is None:
            raise UsageError("`tissue_device` is where a `tissue_model` runs: give one")
        if self.described is not None:
            idle = {
                "tissue": self.method != "stained",
                "tissue_threshold": self.threshold is not None,
                "closing": self.closing is not None,
            }
            for name in (name for name, given in idle.items() if given):
                raise UsageError(
                    f"`{name}` is of the finder, which `tissue_model` stands in for: leave one of them out"
                )

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
        areas = {"min_piece": self.min_piece, "max_hole": self.max_hole}
        if self.described is not None:
            where = {} if self.device == "cpu" else {"device": self.device}
            return {"model": self.described.as_dict(), **where, **areas}
        found = {
            "method": self.method,
            "threshold": self.level,
            "median": self.median,
            "closing": self.closed,
        }
        return {**found, **areas}

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave; of a model, without the place of its file.

        Raises:
            KeyError, TypeError: it is another version's.
        """
        given = dict(values)
        model = given.pop("model", None)
        return cls(**given, described=None if model is None else TissueModel.recorded(model))

    @property
    def shares(self) -> tuple[str, ...]:
        """Classes of the model whose share of each tile the index has."""
        return () if self.described is None else self.described.columns

    def smallest(self, slide: float) -> float:
        """Area of the smallest piece that stays, on a slide of so many square micrometres."""
        return min(PIECE_UM2, PIECE_SHARE * slide) if self.min_piece is None else self.min_piece
