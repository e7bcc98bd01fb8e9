"""Which patches of a step's crops are masked, as a pure function of (seed, position, crop).

DINOv2's block masks (github.com/facebookresearch/dinov2, data/masking.py and data/collate.py; from BEiT, Bao
et al. 2022). Of the C crops of a step, int(C * share) are masked. The range of ratios is cut into as many
equal bins, and each masked crop draws its ratio from another bin, so that steps mask nearly
the same number of patches. In a crop rectangles are masked until its number of patches is reached, or ten in
a row do not fit: without ``fill`` most crops stay a little below.

Which crops are masked, and which bin each has, is a permutation of the step's crops, keyed by the step and
evaluated at a crop's number. So ranks and parts compute their own crops and get what one rank would.
"""

import numpy as np
import numpy.typing as npt

from pathprep.kernels import block_masks_cpu
from pathtrain.data.order import Ints, hashed, permuted, uniform

Flags = npt.NDArray[np.bool_]

# Keep these hashes apart from each other and from those of order and views
_BINS, _RATIO, _BLOCKS = 0x62696E73, 0x726174696F, 0x626C6F636B73


def masks(
    positions: Ints,
    batch: int,
    crops: int,
    grid: tuple[int, int],
    share: float,
    ratio: tuple[float, float],
    fill: bool,
    seed: int,
) -> Flags:
    """Masked patches of all crops of some tiles.

    Args:
        positions: (B,) places of tiles in the run (pathtrain.data.order), of one or several steps.
        batch: tiles of a whole step, over all ranks.
        crops: G of each tile.
        grid: rows and columns of patches, each above 1.
        share: of a step's crops that are masked, 0 to 1; int(batch * crops * share) are.
        ratio: least and largest share of masked patches in a masked crop, 0 to 1.
        fill: mask single patches at random up to the ratio where blocks end below it; ratios are then the
            upper ends of the bins, as DINOv3 has it, so that each step masks as many patches (``patches``).

    Returns:
        (B, G, rows * columns), row by row.
    """
    positions = np.asarray(positions, np.int64)
    numbers = positions[:, None] * crops + np.arange(crops)  # a crop's place in the run
    total, masked = batch * crops, int(batch * crops * share)
    bins = permuted(numbers.ravel(), total, hashed(seed, _BINS))
    words = hashed(seed, _RATIO, numbers.ravel())
    places = bins + (1.0 if fill else uniform(words, 1)[:, 0])
    targets = np.where(bins < masked, _counts(places.astype(np.float64), masked, grid, ratio), 0)
    found = np.zeros((len(targets), grid[0] * grid[1]), np.bool_)
    block_masks_cpu.apply(targets, hashed(seed, _BLOCKS, numbers.ravel()), grid[0], grid[1], fill, found)
    return found.reshape(len(positions), crops, -1)


def patches(
    batch: int, crops: int, grid: tuple[int, int], share: float, ratio: tuple[float, float]
) -> tuple[int, int]:
    """What all crops of a step have masked with ``fill``: patches of all together, and of one at most."""
    masked = int(batch * crops * share)
    counts = _counts(np.arange(1, masked + 1, dtype=np.float64), masked, grid, ratio)
    return int(counts.sum()), int(counts.max(initial=0))


def _counts(
    places: npt.NDArray[np.float64], masked: int, grid: tuple[int, int], ratio: tuple[float, float]
) -> Ints:
    """Patches at places in the range of ratios, which is cut into ``masked`` bins of width 1."""
    shares = ratio[0] + (ratio[1] - ratio[0]) * places / max(1, masked)
    return (grid[0] * grid[1] * shares).astype(np.int64)
