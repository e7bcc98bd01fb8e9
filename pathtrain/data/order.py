"""Which tile comes when, computed instead of stored.

Position p = step * batch + j is the p-th tile that the run sees. It lies in epoch p // N, and the tile
is a keyed permutation of [0, N) evaluated at p % N (pathprep.permutation). So a run's place is one integer,
any position is known in O(1) time and memory, and neither the number of ranks nor of workers nor a restart
changes it.
"""

import numpy as np

from pathprep.permutation import Ints, Words, hashed, permuted, uniform

__all__ = ["Ints", "Words", "hashed", "permuted", "positions", "uniform"]


def positions(step: int, batch: int, rank: int = 0, world: int = 1) -> Ints:
    """Positions of one step that a rank takes: step * batch + rank, and every world-th after it.

    Args:
        batch: tiles of the whole step, over all ranks.
    """
    return step * batch + np.arange(rank, batch, world, dtype=np.int64)
