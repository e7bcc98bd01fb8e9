"""What a slide holds, seen from its overview: resolution, grid, tissue, and which cells become tiles."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UnreadableSlide
from pathprep.kernels.macenko_reference import MAX_PIXELS
from pathprep.params.notes import Note
from pathprep.params.origin import AskedOrigin
from pathprep.params.shard import ShardParams
from pathprep.params.tissue import TissueParams
from pathprep.slides import grid, masks, tissue, tissue_model
from pathprep.slides.grid import Cells, Grid
from pathprep.slides.masks import Ground, PlacedMask
from pathprep.slides.mpp.settle import Mpp, MppRules
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import Slide
from pathprep.slides.unlike import notes


@dataclass(frozen=True)
class Survey:
    """The result of looking at one slide.

    Attributes:
        plan: the grid. overview: (h, w, 3) uint8. mask: (h, w) bool, tissue, as it is drawn on the overview.
        given: the user's mask that it is; None if the tissue was looked for.
        share: (rows, columns) share of each cell inside the mask.
        kept: (T, 2) column and row of the cells with enough tissue, row by row.
        too_small: number and square micrometres of the pieces of tissue that were dropped for their size.
        swallowed: (rows, columns) bool, cells that would be kept with them.
        notes: what the slide looks like that others do not (slides.unlike).
        shares: (rows, columns) each, share of a class of the tissue model, by its name.
    """

    mpp: Mpp
    plan: Grid
    overview: Pixels
    mask: tissue.Mask
    share: npt.NDArray[np.float64]
    kept: Cells
    given: PlacedMask | None = None
    too_small: tuple[int, float] = (0, 0.0)
    swallowed: npt.NDArray[np.bool_] | None = None
    notes: tuple[Note, ...] = ()
    shares: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tissue:
    """What an overview tells of a slide, whatever is made of it.

    Attributes:
        small: (h, w) bool, pieces that were dropped for their size; without pixels if there are none.
        classes: (h, w) bool each, what the tissue model takes for a class, by its name. glass: whether any
            is in view. others: as of ``Survey``.
    """

    overview: Pixels
    mask: tissue.Mask
    small: tissue.Mask
    given: PlacedMask | None
    too_small: tuple[int, float]
    notes: tuple[Note, ...]
    classes: dict[str, tissue.Mask] = field(default_factory=dict)
    glass: bool = True


def look(
    slide: Slide,
    mpp: float,
    params: TissueParams,
    mask: Path | None = None,
    mask_origin: AskedOrigin = "auto",
) -> Tissue:
    """Find the tissue of a slide, or take the user's mask.

    Args:
        mpp: of the slide, micrometres per level-0 pixel.

    Raises:
        MaskError, UnreadableSlide: see Slide and masks.place_mask.
    """
    overview = slide.overview(tissue.overview_downsample(slide.width, slide.height, mpp))
    picture, scale = tissue.search_picture(overview, slide.width, slide.height, mpp)
    classes: dict[str, tissue.Mask] = {}
    if params.described is None:
        found = tissue.segment(picture, scale, params)
    else:
        seen_by = tissue_model.see(slide, picture, scale, mpp, params.described, params.device)
        found = tissue.of_model(picture, seen_by.tissue, scale, params)
        numbers = {name: params.described.classes.index(name) for name in params.shares}
        classes = {name: seen_by.classes == number for name, number in numbers.items()}
    drawn, given = tissue.on(overview, found, params), None
    small = np.zeros((0, 0), bool)
    if found.small.any():
        small = tissue.on(overview, found._replace(mask=found.mask | found.small), params) & ~drawn
    if mask is not None:
        ground = Ground(slide.width, slide.height, overview.shape[:2], slide.bounds, mask_origin)
        given = masks.place_mask(mask, ground)
        doubts = masks.doubts(given.tissue, drawn)
        given = replace(given, notes=(*given.notes, doubts)) if doubts else given
        drawn = given.tissue
        small = np.zeros((0, 0), bool)
    seen = notes(picture, found.glass, found.mask)
    if given is not None:
        seen = tuple(note for note in seen if note not in ("all_tissue", "no_tissue"))
    lost = (found.pieces, float(found.small.sum() * scale**2)) if given is None else (0, 0.0)
    return Tissue(overview, drawn, small, given, lost, seen, classes, found.glass is not None)


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
    ground = look(slide, settled.value, params.tissue, mask, mask_origin)
    drawn, small = ground.mask, ground.small

    def cells(mask: tissue.Mask) -> tuple[npt.NDArray[np.float64], Cells]:
        share = tissue.fractions(
            mask, slide.width, slide.height, plan.columns, plan.rows, plan.side, plan.stride
        )
        return share, grid.keep(plan, share, params.min_tissue, whole_regions=params.whole_regions)

    share, kept = cells(drawn)
    swallowed = None
    if small.any():
        swallowed = np.zeros(share.shape, bool)
        _, more = cells(drawn | small)
        swallowed[more[:, 1], more[:, 0]] = True
        swallowed[kept[:, 1], kept[:, 0]] = False
    return Survey(
        settled,
        plan,
        ground.overview,
        drawn,
        share,
        kept,
        ground.given,
        ground.too_small,
        swallowed,
        ground.notes,
        {name: cells(mask)[0] for name, mask in ground.classes.items()},
    )
