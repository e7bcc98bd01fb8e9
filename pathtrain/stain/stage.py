"""The stain of a run's tiles and views: matrices from a tile's fit, the target, and jitter.

A fit is the stored one, or (``stain.fit: load``) made of the decoded tile; then a tile that cannot be fitted
has no slide's fit to fall back on: it stays as it is, and is counted.

Normalising acts on the whole tile, before its views are cut, as EXAONEPath does it. Jitter is drawn for each
view, and acts on it after its crop: views that shared their tile's staining would let DINO match them by it.
With ``stain.per: tile``, and where whole tiles are used (of regions and slides), it is part of a tile's
one matrix. Random numbers come from the position in the run, of tile, region or slide, and the view's number
alone (``draw``). What chance leaves out (``stain.p``) has numbers of 0, and keeps its pixels to the bit.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.permutation import Ints, hashed, uniform
from pathprep.stain import IO, Jitter, StainFit, Status, Target
from pathtrain.recipes.recipe import StainConfig
from pathtrain.stain import suits
from pathtrain.stain import target as targets
from pathtrain.stain.suits import Stained

Floats = npt.NDArray[np.float64]

HED_NUMBERS = 6  # of NUMBERS, that HED jitter takes: three gains, three shifts
_STREAM = 0x737461696E  # keeps these hashes apart from others


class Fits(Protocol):
    """Stains of tiles as they are stored."""

    def take(self, tiles: Ints) -> StainFit:
        """Those of some tiles (B,)."""


class Stage:
    """What a recipe does to stain: ``inputs`` for each step, which ``apply`` and the views take.

    Args:
        fits: None if they are not stored, or not needed.
        target: to normalise to, or None.
        options: of fitting (pathprep.stain.fit) where ``config.fit`` is load.
        io: transmitted light of the fits and matrices, grey levels.
        jitter: whether the random part of ``config`` acts.
        views: V, of a tile, which jitter is drawn for; 0: it is drawn for the whole tile, and acts on it.

    Attributes:
        of_views: whether the views have matrices of their own, (B, V, 3, 4).
        on_tiles: whether whole tiles go through ``apply``.
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
        views: int = 0,
    ) -> None:
        self.config, self.fits, self.target = config, fits, target
        self.options, self.io, self.seed = options, io, seed
        random = jitter and config.jitters
        self._jitter = Jitter(config.concentration, config.angle, config.shift) if random else None
        self._views = views
        self.of_views = random and views > 0
        self.on_tiles = self.fits_tiles or not views or target is not None
        self._lock = threading.Lock()
        self._counts: Any = None  # where the tiles are: fitted, unfitted

    @property
    def fits_tiles(self) -> bool:
        """Whether each tile is fitted when it has been decoded."""
        return self.config.needs_fits and self.fits is None

    @property
    def width(self) -> int:
        """How many arrays ``inputs`` gives."""
        if self.fits_tiles:
            return int(self._jitter is not None)
        return self.on_tiles + self.of_views

    @property
    def tile_width(self) -> int:
        """How many of them, from the first on, ``apply`` takes; what is left is the views' matrices."""
        return self.width if self.fits_tiles else int(self.on_tiles)

    def inputs(self, tiles: Ints, positions: Ints) -> list[Floats]:
        """For tiles (B,) at their positions (B,) in the run.

        If tiles are fitted when they are decoded: jitter's numbers (B, NUMBERS) or (B, V, NUMBERS), if any.
        Else the matrices of the tiles (B, 3, 3) or (B, 3, 4) if there are any, and those of the views.
        """
        numbers = draw(positions, self.seed, self._views, self.config.p) if self._jitter else None
        if self.fits_tiles:
            return [] if numbers is None else [numbers]
        fits = None if self.fits is None else self.fits.take(tiles)
        found = [self._of_tiles(fits, numbers)] if self.on_tiles else []
        return [*found, self._of_views(fits, numbers)] if self.of_views else found

    def apply(
        self, tiles: list[Any], given: Sequence[Any] = (), threads: int = 1
    ) -> tuple[list[Any], list[Any] | None]:
        """The stage on decoded tiles: B arrays (H, W, 3) uint8, numpy, or CuPy on the current stream.

        Args:
            given: the first ``tile_width`` of ``inputs``, in numpy or of the tiles' library.
            threads: CPU threads.

        Returns:
            The tiles; and if they were fitted here, the matrices of their views, B of (V, 3, 4), if any.
        """
        if not self.fits_tiles:
            return stain.apply(tiles, given[0], io=self.io, threads=threads), None
        fits = stain.fit(tiles, **self.options, threads=threads)
        self._count(fits.status)
        numbers = given[0] if given else None
        if not self._views or self.target is not None:
            tiles = stain.apply(tiles, self._of_tiles(fits, numbers), io=self.io, threads=threads)
        return tiles, list(self._of_views(fits, numbers)) if self.of_views else None

    def _of_tiles(self, fits: StainFit | None, numbers: Any) -> Any:
        if self._views:
            assert fits is not None  # without a target nothing is done to tiles
            return stain.matrix(fits, self.target)
        if fits is None:
            assert self._jitter is not None  # StainConfig: hed without jitter is refused
            return _kept(stain.hed(len(numbers), self._jitter, numbers[:, :HED_NUMBERS]), numbers)
        found = stain.matrix(fits, self.target, self._jitter, numbers)
        return found if numbers is None or self.target is not None else _kept(found, numbers)

    def _of_views(self, fits: StainFit | None, numbers: Any) -> Any:
        """(B, V, 3, 4) in the library of the numbers (B, V, NUMBERS)."""
        assert self._jitter is not None
        flat = numbers.reshape(-1, stain.NUMBERS)
        if fits is None:
            found = stain.hed(len(flat), self._jitter, flat[:, :HED_NUMBERS])
        else:
            found = stain.matrix(_of_views(fits, self.target, self._views), None, self._jitter, flat)
        return _kept(found, flat).reshape(-1, self._views, 3, 4)

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


def _kept(matrices: Any, numbers: Any) -> Any:
    """Matrices (N, 3, 4) with the exact identity where all numbers (N, NUMBERS) are 0: nothing was drawn."""
    xp = stain.arrays.namespace(matrices)
    still = (xp.asarray(numbers) == 0).all(axis=1)[:, None, None]
    return xp.where(still, xp.eye(3, 4), matrices)


def _of_views(fits: StainFit, target: Target | None, views: int) -> StainFit:
    """Fits of the views (B * V) of tiles that have been normalised, if there is a target."""
    xp = stain.arrays.namespace(fits.he)
    he = fits.he if target is None else xp.broadcast_to(xp.asarray(target.he), fits.he.shape)
    parts = he, fits.max_c, fits.tissue_pixels, fits.status
    return StainFit(*(xp.repeat(part, views, axis=0) for part in parts))


def on_batches(stage: Stage, threads: int) -> Callable[..., Any]:
    """What DALI's python_function calls: a batch's decoded tiles and, for each of their inputs, the batch's
    arrays -> the changed tiles, and the views' matrices if they are known only now; numpy, or CuPy on DALI's
    stream.

    DALI's own threads wait for it, hence as many threads as they are.
    """

    def change(tiles: list[Any], *given: list[Any]) -> Any:
        stacked = [stain.arrays.namespace(each[0]).stack(each) for each in given]
        changed, of_views = stage.apply(tiles, stacked, threads)
        return changed if of_views is None else (changed, of_views)

    return change


def stage(
    data: Sequence[Stained],
    config: StainConfig,
    seed: int,
    stored: Callable[[], Fits],
    target: Target | None = None,
    jitter: bool = True,
    views: int = 0,
) -> Stage | None:
    """The stain stage on a dataset, several or mixed shards; None if there is nothing to do.

    Args:
        data: whose tiles they are; see pathtrain.stain.suits.
        config: the recipe's ``stain``.
        seed: the recipe's.
        stored: gives the fits that the tiles were stored with; called if they are needed.
        target: to normalise to; None for the one that ``config`` names.
        jitter: False leaves out what is random: for inference.
        views: see ``Stage``; with ``per: tile`` as 0.

    Raises:
        TrainError: see pathtrain.stain.suits.
        RecipeError: the recipe's target cannot be read.
    """
    goal = target or targets.settle(config)
    config = suits.check(data, config, goal)
    if config.mode == "none" or (config.mode == "jitter" and not jitter):
        return None
    goal = goal if config.mode == "normalize" else None
    made = data[0].params["stain"]
    fits = stored() if config.needs_fits and config.fit == "stored" else None
    options = {key: made[key] for key in targets.FIT_OPTIONS if key in made}
    views = views if config.per == "view" else 0
    return Stage(config, fits, goal, options, made.get("io", IO), seed, jitter, views)


def draw(positions: Ints, seed: int, views: int = 0, p: float = 1.0) -> Floats:
    """Numbers for the stain jitter at each position (B,), uniform in [-1, 1).

    Args:
        p: probability that a tile or view is jittered; the numbers of the others are all 0.

    Returns:
        (B, NUMBERS) of whole tiles, or (B, V, NUMBERS) of V views.
    """
    given = (seed, _STREAM, positions[:, None], np.arange(views)) if views else (seed, _STREAM, positions)
    words = hashed(*given)
    found = uniform(words.ravel(), stain.NUMBERS + 1).reshape(*words.shape, -1)
    return np.where(found[..., -1:] < p, -1.0 + 2.0 * found[..., :-1], 0.0)
