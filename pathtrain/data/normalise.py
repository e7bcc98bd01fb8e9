"""Tiles at inference as a normalising model was trained on them.

A dataset's stored fits are used where it has them; images without are fitted when they are decoded, with
the options of the fits that the model was trained on. Tiles without a plausible fit stay as they are, as
in training. Tiles that were normalised when they were stored are not normalised twice.
"""

import sys
import threading
from collections import Counter

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.shards import Dataset
from pathprep.stain import Status
from pathtrain.data.order import Ints
from pathtrain.data.stain import Floats, StoredFits, stored_fits
from pathtrain.target import RunTarget

Pixels = npt.NDArray[np.uint8]


class Normaliser:
    """Normalises tiles to a model's target.

    Args:
        target: of the model.
        fits: of the tiles by number; None to fit each when it is decoded.
        io: transmitted light that the fits refer to, grey levels.
    """

    def __init__(self, target: RunTarget, fits: StoredFits | None, io: float) -> None:
        self.goal, self.options = target.target, target
        self.fits, self.io = fits, io
        self._counts: Counter[bool] = Counter()
        self._lock = threading.Lock()

    def matrices(self, tiles: Ints) -> list[Floats | None]:
        """A matrix (3, 3) per tile; None for one that is to be fitted."""
        if self.fits is None:
            return [None] * len(tiles)
        return list(stain.matrix(self.fits.take(tiles), self.goal))

    def __call__(self, pixels: Pixels, matrix: Floats | None) -> Pixels:
        """A tile (H, W, 3), normalised by its matrix; from any thread."""
        if matrix is None:
            how = self.options
            fit = stain.fit([pixels], keep=how.keep, alpha=how.alpha, beta=how.beta, io=self.io, threads=1)
            matrix = stain.matrix(fit, self.goal)[0]
            with self._lock:
                self._counts[bool(fit.status[0] == Status.FITTED)] += 1
        found: list[Pixels] = stain.apply([pixels], np.stack([matrix]), io=self.io, threads=1)
        return found[0]

    @property
    def outcome(self) -> str:
        """What fitting came to so far, for people; empty if nothing was fitted."""
        if not self._counts:
            return ""
        left = self._counts[False]
        return f"stain fitted on {self._counts[True]} tiles" + (f", {left} left as they are" if left else "")


def normaliser(target: RunTarget | None, dataset: Dataset | None) -> Normaliser | None:
    """What turns tiles into those that a model with this target was trained on; None: nothing is needed.

    Warns on stderr where a dataset was baked to another target.

    Args:
        dataset: that the tiles are from; None for images without stored fits.
    """
    if target is None:
        return None
    if dataset is None or dataset.params["stain"]["mode"] == "none":
        return Normaliser(target, None, target.io)
    made = dataset.params["stain"]
    if made["mode"] == "fit":
        return Normaliser(target, stored_fits(dataset), made["io"])
    if made["target"] != target.target.as_params():
        print(
            f"warning: {dataset.root}: its tiles were normalised to another target than the model's, and "
            "are taken as they are; make it again with `pathprep shard --stain fit` to have them follow",
            file=sys.stderr,
        )
    return None
