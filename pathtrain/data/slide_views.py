"""What of a slide a training step sees: some of its regions, and each tile turned at random.

A pure function of (seed, position in the run), as all that is random in training: a resume needs the step
alone. A slide's label is given to the part of it that is drawn: a step sees more slides for the same work,
and a cohort of few slides gives more that is different. Tissue has no up and no left, so a tile may be turned
and mirrored without changing what it is.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pathtrain.data.layout import Layout
from pathtrain.data.order import Ints, hashed

_REGIONS, _TURNS = 0x647261776E, 0x7475726E  # keep these hashes apart from others


def drawn(layout: Layout, count: int, seed: int, place: int) -> Layout:
    """The layout of ``count`` of a slide's regions, without replacement; of all if there are no more.

    Args:
        seed: of the phase's slides.
        place: the slide's position in the run.
    """
    total = len(layout.counts)
    if count >= total:
        return layout
    order = np.argsort(hashed(seed, _REGIONS, place, np.arange(total)), kind="stable")
    kept = np.sort(order[:count])
    starts = np.cumsum(layout.counts) - layout.counts
    tiles = np.concatenate([np.arange(starts[r], starts[r] + layout.counts[r]) for r in kept])
    numbers = np.full(len(layout.tiles) + 1, len(tiles))  # what is no tile becomes the new background
    numbers[tiles] = np.arange(len(tiles))
    return replace(
        layout,
        tiles=layout.tiles[tiles],
        cells=numbers[layout.cells[kept]],
        places=layout.places[kept],  # where they lie in the whole slide, as when all of it is seen
        counts=layout.counts[kept],
    )


def orientations(tiles: Ints, seed: int, place: int) -> Ints:
    """(N,) 0 to 7 for tiles (N,): quarter turns, and 4 more for a mirrored tile."""
    return (hashed(seed, _TURNS, place, tiles) >> np.uint64(61)).astype(np.int64)


def orient(pixels: Tensor, codes: Ints) -> None:
    """Turn tiles in place.

    Args:
        pixels: (N + 1, H, H, C), on any device; the background, last, stays.
        codes: (N,) of ``orientations``.
    """
    for code in range(1, 8):
        which = torch.from_numpy(np.flatnonzero(codes == code)).to(pixels.device)
        if not len(which):
            continue
        part = pixels[which]
        pixels[which] = torch.rot90(part.flip(2) if code >= 4 else part, code % 4, (1, 2))
