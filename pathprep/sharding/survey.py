"""What a slide holds, seen from its overview: resolution, grid, tissue, and which cells become tiles."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UnreadableSlide
from pathprep.kernels.macenko_reference import MAX_PIXELS
from pathprep.params.origin import AskedOrigin
from pathprep.params.shard import ShardParams
from pathprep.slides import grid, masks, tissue
from pathprep.slides.grid import Cells, Grid
from pathprep.slides.masks import Ground, PlacedMask
from pathprep.slides.mpp.settle import Mpp, MppRules
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import Slide


@dataclass(frozen=True)
class Survey:
    """The result of looking at one slide.

    Attributes:
        plan: the grid. overview: (h, w, 3) uint8. mask: (h, w) bool, tissue.
        given: the user's mask that it is; None if the tissue was looked for.
        share: (rows, columns) share of each cell inside the mask.
        kept: (T, 2) column and row of the cells with enough tissue, row by row.
    """

    mpp: Mpp
    plan: Grid
    overview: Pixels
    mask: tissue.Mask
    share: npt.NDArray[np.float64]
    kept: Cells
    given: PlacedMask | None = None


def resolution(slide: Slide, params: ShardParams, mpp: float | None = None) -> Mpp:
    """Micrometres per pixel of a slide; ``mpp`` overrides what the file says.

    Raises:
        MppError: see Slide.mpp.
    """
    return slide.mpp(MppRules(mpp, params.default_mpp, params.low_mpp, params.high_mpp))


def settle(slide: Slide, params: ShardParams, mpp: float | None = None) -> tuple[Mpp, Grid]:
    """Resolution and grid of a slide; ``mpp`` overrides what the file says.

    Raises:
        MppError: see Slide.mpp and grid.plan.
    """
    settled = resolution(slide, params, mpp)
    plan = grid.plan(
        slide,
        settled.value,
        tile=params.tile,
        target=params.mpp,
        mode=params.mode,
        overlap=params.overlap,
        per_region=params.region // params.tile,
    )
    return settled, plan


def survey(
    slide: Slide,
    params: ShardParams,
    mpp: float | None = None,
    mask: Path | None = None,
    mask_origin: AskedOrigin = "auto",
) -> Survey:
    """Find the tissue of a slide, or take the user's mask, and the tiles that come of it.

    Raises:
        MppError, MaskError, UnreadableSlide: see Slide and masks.place_mask.
    """
    settled, plan = settle(slide, params, mpp)
    if params.stain.mode != "none" and plan.stored**2 > MAX_PIXELS:
        raise UnreadableSlide(
            f"{slide.path}: tiles of {plan.stored} px a side are too large for a stain fit; "
            "use `mode` resize, a smaller `tile`, or `stain` none"
        )
    overview = slide.overview(tissue.overview_downsample(slide.width, slide.height, settled.value))
    found = tissue.segment(overview, settled.value * slide.width / overview.shape[1], params.tissue)
    given = None
    if mask is not None:
        ground = Ground(slide.width, slide.height, overview.shape[:2], slide.bounds, mask_origin)
        given = masks.place_mask(mask, ground)
        doubts = masks.doubts(given.tissue, found)
        given = replace(given, notes=(*given.notes, doubts)) if doubts else given
        found = given.tissue
    share = tissue.fractions(
        found, slide.width, slide.height, plan.columns, plan.rows, plan.side, plan.stride
    )
    kept = grid.keep(plan, share, params.min_tissue, whole_regions=params.whole_regions)
    return Survey(settled, plan, overview, found, share, kept, given)
