"""The stain of a run's tiles: one matrix per tile from its fit, the target, and jitter.

A fit is the stored one, or (``stain.fit: load``) made of the decoded tile; then a tile that cannot be fitted
has no slide's fit to fall back on: it stays as it is, and is counted.

The matrix acts on the whole tile, before its views are cut, as EXAONEPath does it; so all views of a tile
share its stain. Random numbers come from the tile's position in the run alone (``draw``).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.mixed.reader import MixedDataset
from pathprep.permutation import Ints, hashed, uniform
from pathprep.stain import IO, Jitter, StainFit, Status, Target
from pathtrain.recipes.recipe import StainConfig
from pathtrain.stain import suits
from pathtrain.stain import target as targets

Floats = npt.NDArray[np.float64]

_STREAM = 0x737461696E  # keeps these hashes apart from others


class Fits(Protocol):
    """Stains of tiles as they are stored."""

    def take(self, tiles: Ints) -> StainFit:
        """Those of some tiles (B,)."""


class Stage:
    """What a recipe does to the stain of the tiles: ``inputs`` for each step, which ``apply`` takes.

    Args:
        fits: None if they are not stored, or not needed.
        target: to normalise to, or None.
        options: of fitting (pathprep.stain.fit) where ``config.fit`` is load.
        io: transmitted light of the fits and matrices, grey levels.
        jitter: whether the random part of ``config`` acts.
    """

    def __init__(
        self,
        config: StainConfig,
        fits: Fits | None,
        target: Target | None,
        options: Mapping[str, Any],
        io: float,
        seed: int,
        jitter: bool = True,
    ) -> None:
        self.config, self.fits, self.target = config, fits, target
        self.options, self.io, self.seed = options, io, seed
        random = jitter and config.jitters
        self._jitter = Jitter(config.concentration, config.angle) if random else None
        self._lock = threading.Lock()
        self._counts: Any = None  # where the tiles are: fitted, unfitted

    @property
    def fits_tiles(self) -> bool:
        """Whether each tile is fitted when it has been decoded."""
        return self.config.needs_fits and self.fits is None

    @property
    def width(self) -> int:
        """How many arrays ``inputs`` gives."""
        return int(not self.fits_tiles or self._jitter is not None)

    def inputs(self, tiles: Ints, positions: Ints) -> list[Floats]:
        """For tiles (B,) at their positions (B,) in the run: matrices (B, 3, 3), or if tiles are fitted when
        they are decoded, jitter's numbers (B, 6), or nothing."""
        if not self.fits_tiles:
            return [self.matrices(tiles, positions)]
        return [draw(positions, self.seed)] if self._jitter else []

    def matrices(self, tiles: Ints, positions: Ints) -> Floats:
        """(B, 3, 3) for tiles (B,) at their positions (B,) in the run, from stored fits or none."""
        numbers = draw(positions, self.seed) if self._jitter else None
        if self.fits is None:
            assert numbers is not None  # StainConfig: hed without jitter is refused
            return stain.hed(len(tiles), self.config.concentration, numbers[:, :3])
        found: Floats = stain.matrix(self.fits.take(tiles), self.target, self._jitter, numbers)
        return found

    def apply(self, tiles: list[Any], given: Sequence[Any] = (), threads: int = 1) -> list[Any]:
        """The stage on decoded tiles: B arrays (H, W, 3) uint8, numpy, or CuPy on the current stream.

        Args:
            given: what ``inputs`` gives, in numpy or of the tiles' library.
            threads: CPU threads.
        """
        numbers = given[0] if given else None
        if not self.fits_tiles:
            matrices = numbers
        else:
            fits = stain.fit(tiles, **self.options, threads=threads)
            self._count(fits.status)
            matrices = stain.matrix(fits, self.target, self._jitter, numbers)
        found: list[Any] = stain.apply(tiles, matrices, io=self.io, threads=threads)
        return found

    def counts(self) -> tuple[int, int]:
        """Tiles fitted so far, and tiles that could not be and stayed as they are; waits for a GPU."""
        with self._lock:
            if self._counts is None:
                return 0, 0
            if not isinstance(self._counts, np.ndarray):
                self._counts.device.synchronize()  # they are counted on another stream
            fitted, left = stain.arrays.to_numpy(self._counts).tolist()
            return fitted, left

    def _count(self, status: Any) -> None:
        xp = stain.arrays.namespace(status)
        with self._lock:
            if self._counts is None:
                self._counts = xp.zeros(2, xp.int64)
            fitted = status == int(Status.FITTED)
            self._counts += xp.stack([fitted.sum(), (~fitted).sum()])


def on_batches(stage: Stage, threads: int) -> Callable[..., list[Any]]:
    """What DALI's python_function calls: a batch's decoded tiles and, for each of the stage's inputs, the
    batch's arrays -> the changed tiles; numpy, or CuPy on DALI's stream.

    DALI's own threads wait for it, hence as many threads as they are.
    """

    def change(tiles: list[Any], *given: list[Any]) -> list[Any]:
        stacked = [stain.arrays.namespace(each[0]).stack(each) for each in given]
        return stage.apply(tiles, stacked, threads)

    return change


def stage(
    data: Dataset | MixedDataset,
    config: StainConfig,
    seed: int,
    stored: Callable[[], Fits],
    target: Target | None = None,
    jitter: bool = True,
) -> Stage | None:
    """The stain stage on a dataset or mixed shards; None if there is nothing to do.

    Args:
        config: the recipe's ``stain``.
        seed: the recipe's.
        stored: gives the fits that the tiles were stored with; called if they are needed.
        target: to normalise to; None for the one that ``config`` names.
        jitter: False leaves out what is random: for inference.

    Raises:
        TrainError: see pathtrain.stain.suits.
        RecipeError: the recipe's target cannot be read.
    """
    goal = target or targets.settle(config)
    config = suits.check(data, config, goal)
    if config.mode == "none" or (config.mode == "jitter" and not jitter):
        return None
    goal = goal if config.mode == "normalize" else None
    made = data.params["stain"]
    fits = stored() if config.needs_fits and config.fit == "stored" else None
    options = {key: made[key] for key in targets.FIT_OPTIONS if key in made}
    return Stage(config, fits, goal, options, made.get("io", IO), seed, jitter)


def draw(positions: Ints, seed: int) -> Floats:
    """(B, 6) numbers, uniform in [-1, 1), for the stain jitter of the whole tile at each position."""
    return -1.0 + 2.0 * uniform(hashed(seed, _STREAM, positions), 6)
