"""Tiles at inference as a normalising model was trained on them.

A dataset's stored fits are used where it has them. Images without are fitted when they are decoded, with
the options of the fits that the model was trained on; a tile of a dataset that cannot be fitted takes its
slide's pooled fit, as when tiles are baked (pathtrain.stain.pools). Tiles without a plausible fit stay as
they are, as in training. Tiles that were baked to the model's target are taken as they are; those that
were baked to another one have that one's stains, and are normalised again from there.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import STATUSES
from pathprep.permutation import Ints
from pathprep.stain import StainFit, Status
from pathprep.words import counted
from pathtrain.stain.pools import Pools
from pathtrain.stain.stage import Floats
from pathtrain.stain.stored_fits import StoredFits, stored_fits
from pathtrain.stain.target import ModelTarget

Pixels = npt.NDArray[np.uint8]


class Normaliser:
    """Normalises tiles to a model's target.

    Args:
        target: of the model.
        fits: of the tiles by number; None to fit each when it is decoded.
        stored: (N,) int8, each tile's stored status, a number into STATUSES; None without stored fits.
        io: transmitted light that the fits refer to, grey levels.
        pooled: the fit that a tile falls back to, by its number; None for tiles that are of no slide.
    """

    def __init__(
        self,
        target: ModelTarget,
        io: float,
        fits: StoredFits | None = None,
        stored: npt.NDArray[np.int8] | None = None,
        pooled: Callable[[int], StainFit] | None = None,
    ) -> None:
        self.goal, self.options = target.target, target
        self.fits, self.io, self._stored, self._pooled = fits, io, stored, pooled
        self._found: Counter[Status] = Counter()
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def matrices(self, tiles: Ints) -> list[Floats | None]:
        """A matrix (3, 3) per tile; None for one that is to be fitted."""
        if self.fits is None:
            return [None] * len(tiles)
        if self._stored is not None:
            self._taken.update(STATUSES[number] for number in self._stored[tiles].tolist())
        return list(stain.matrix(self.fits.take(tiles), self.goal))

    def __call__(self, pixels: Pixels, matrix: Floats | None, tile: int) -> Pixels:
        """A tile (H, W, 3), normalised by its matrix, or fitted first; from any thread."""
        if matrix is None:
            how = self.options
            fit = stain.fit([pixels], keep=how.keep, alpha=how.alpha, beta=how.beta, io=self.io, threads=1)
            if self._pooled is not None and fit.status[0] == Status.UNFITTED:
                fit = stain.fall_back(fit, self._pooled(tile))
            matrix = stain.matrix(fit, self.goal)[0]
            with self._lock:
                self._found[Status(fit.status[0])] += 1
        found: list[Pixels] = stain.apply([pixels], np.stack([matrix]), io=self.io, threads=1)
        return found[0]

    def recall(self, statuses: Mapping[str, int]) -> None:
        """Count tiles that were normalised before, and whose features were kept."""
        self._taken.update(statuses)

    @property
    def statuses(self) -> dict[str, int]:
        """Tiles normalised so far, by where their fit came from: ``fitted``, ``slide_fit``, ``unfitted``."""
        counts = Counter({status.name.lower(): number for status, number in self._found.items()})
        counts.update(self._taken)
        return {name: counts[name] for name in STATUSES if counts[name]}

    @property
    def outcome(self) -> str:
        """What fitting came to so far, for people; empty if nothing was fitted here."""
        if not self._found:
            return ""
        by_slide, left = self._found[Status.SLIDE_FIT], self._found[Status.UNFITTED]
        parts = [f"stain fitted on {counted(self._found[Status.FITTED], 'tile')}"]
        parts += [f"{by_slide} took their slide's fit"] if by_slide else []
        parts += [f"{left} left as they are"] if left else []
        return ", ".join(parts)


def normaliser(target: ModelTarget | None, dataset: Dataset | None) -> Normaliser | None:
    """What turns tiles into those that a model with this target was trained on; None: nothing is needed.

    Args:
        dataset: that the tiles are from; None for images without stored fits.
    """
    if target is None:
        return None
    if dataset is None:
        return Normaliser(target, target.io)
    made = dataset.params["stain"]
    if made["mode"] == "none":
        pools, index = Pools(dataset, target), dataset.tiles(["offset"])
        return Normaliser(target, target.io, pooled=lambda tile: pools.of(*index.locate(tile)))
    if made["mode"] == "bake" and made["target"] == target.target.as_params():
        return None
    stored = dataset.tiles(["stain_status"]).columns["stain_status"]
    return Normaliser(target, made["io"], stored_fits(dataset), stored)
