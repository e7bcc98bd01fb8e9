"""What a survey comes to: slides, tissue, and which resolutions its slides can give."""

from collections.abc import Iterable
from typing import Any

from pathprep.surveys.record import Surveyed

MPPS = (0.25, 0.5, 1.0, 2.0)  # Midnight's
TILE = 256
COARSER = 2.0  # an MPP is left out where the slide has fewer than half of its pixels along a side


def side_of(slide: Surveyed, mpp: float, tile: int) -> float:
    """Side of a tile of ``tile`` pixels at ``mpp``, in level-0 pixels of a slide."""
    return tile * mpp / slide.mpp


def gives(slide: Surveyed, mpp: float, tile: int = TILE, coarser: float = COARSER) -> bool:
    """Whether a slide gives tiles at a resolution: it is not too coarse, and not smaller than a tile.

    Args:
        mpp: micrometres per pixel of the tiles. tile: their side, pixels.
        coarser: so many times coarser than ``mpp`` it may be; its pixels are then enlarged.
    """
    fits = round(side_of(slide, mpp, tile)) <= min(slide.width, slide.height)
    return slide.tissue.tissue > 0 and slide.mpp <= coarser * mpp * (1 + 1e-9) and fits


def account(slides: Iterable[Surveyed]) -> dict[str, Any]:
    """``slides`` there are, ``tissue_cm2``, ``empty`` (names of those without tissue), ``mpps``: how many
    slides give tiles of TILE pixels at each of MPPS, and ``mpp_sources``: slides by where their MPP is from.
    """
    listed = list(slides)
    sources: dict[str, int] = {}
    for slide in listed:
        sources[slide.mpp_source] = sources.get(slide.mpp_source, 0) + 1
    return {
        "slides": len(listed),
        "tissue_cm2": round(sum(slide.area for slide in listed) / 1e8, 4),
        "empty": [slide.slide for slide in listed if not slide.tissue.tissue],
        "mpps": {f"{mpp:g}": sum(gives(slide, mpp) for slide in listed) for mpp in MPPS},
        "mpp_sources": sources,
    }
