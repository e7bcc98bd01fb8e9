"""The fits that a dataset's tiles were stored with."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathprep.dataset.reader import Dataset
from pathprep.permutation import Ints
from pathprep.stain import StainFit, Status

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StoredFits:
    """The stains that a dataset's tiles have as they are stored, in the order of its index.

    Attributes:
        he: (N, 3, 2) float32, and max_c: (N, 2) float32; one row for all where the tiles were normalised
            when they were stored.
        own: (N, 2) float32, max_c as it was fitted; NaN for tiles that have no fit, which stay as they are.
    """

    he: npt.NDArray[np.float32] | Floats
    max_c: npt.NDArray[np.float32] | Floats
    own: npt.NDArray[np.float32]

    def take(self, tiles: Ints) -> StainFit:
        """The fits of some tiles; all that have one are FITTED."""
        rows = tiles if len(self.he) == len(self.own) else np.zeros(len(tiles), np.int64)
        use = ~np.isnan(self.own[tiles, 0])
        return StainFit(
            np.where(use[:, None, None], self.he[rows], 0.0).astype(np.float64),
            np.where(use[:, None], self.max_c[rows], 0.0).astype(np.float64),
            np.zeros(len(tiles), np.int64),
            np.where(use, Status.FITTED, Status.UNFITTED).astype(np.uint8),
        )


def stored_fits(dataset: Dataset) -> StoredFits:
    """Find them.

    The index holds what was fitted on the plain tiles. Tiles that were baked have the stains of the
    dataset's target instead.

    Args:
        dataset: made with ``--stain fit`` or ``bake``.
    """
    made = dataset.params["stain"]
    if made["mode"] == "bake":
        own = dataset.tiles(["max_c"]).columns["max_c"]
        return StoredFits(np.array([made["target"]["he"]]), np.array([made["target"]["max_c"]]), own)
    columns = dataset.tiles(["he", "max_c"]).columns
    return StoredFits(columns["he"].reshape(-1, 3, 2), columns["max_c"], columns["max_c"])
