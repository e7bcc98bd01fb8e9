"""The stain of a run's tiles: one matrix per tile from its stored fit, the target, and jitter.

The matrix acts on the whole tile, before its views are cut, as EXAONEPath does it; so all views of a tile
share its stain. Random numbers come from the tile's position in the run alone (pathtrain.data.params).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.shards import Dataset
from pathprep.stain import IO, Jitter, StainFit, Status, Target
from pathtrain import target as targets
from pathtrain.data import params
from pathtrain.data.order import Ints
from pathtrain.errors import TrainError
from pathtrain.recipes.schema import Recipe, StainConfig

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


@dataclass(frozen=True)
class Stage:
    """What the recipe does to the stain of a dataset's tiles.

    Attributes:
        fits: None if the mode needs none.
        target: to normalise to, or None.
        io: transmitted light of the fits and matrices, grey levels.
    """

    config: StainConfig
    fits: StoredFits | None
    target: Target | None
    io: float
    seed: int

    def matrices(self, tiles: Ints, positions: Ints) -> Floats:
        """(B, 3, 3) for tiles (B,) at their positions (B,) in the run."""
        config = self.config
        numbers = params.draw_stain(positions, self.seed) if config.jitters else None
        if self.fits is None:
            assert numbers is not None  # StainConfig: hed without jitter is refused
            return stain.hed(len(tiles), config.concentration, numbers[:, :3])
        jitter = Jitter(config.concentration, config.angle) if config.jitters else None
        found: Floats = stain.matrix(self.fits.take(tiles), self.target, jitter, numbers)
        return found


def stage(dataset: Dataset, recipe: Recipe, target: Target | None = None) -> Stage | None:
    """The stage of a recipe on a dataset; None if it has none.

    Args:
        target: to normalise to; None for the one that the recipe names.

    Raises:
        TrainError: see ``check``.
        RecipeError: the recipe's target cannot be read.
    """
    config = recipe.stain
    check(dataset, config)
    if config.mode == "none":
        return None
    goal = (target or targets.settle(config)) if config.mode == "normalize" else None
    fits = stored_fits(dataset) if config.needs_fits else None
    return Stage(config, fits, goal, dataset.params["stain"].get("io", IO), recipe.seed)


def check(dataset: Dataset, config: StainConfig) -> None:
    """Refuse a mode that the dataset's tiles cannot serve.

    Raises:
        TrainError: they are normalised already, or have no fits.
    """
    made: dict[str, Any] = dataset.params["stain"]
    if config.mode == "normalize" and made["mode"] == "bake":
        raise TrainError(
            f"{dataset.root}: its tiles are already normalised (`pathprep shard --stain bake`); "
            "use stain.mode=none, or make it again with `pathprep shard --stain fit`"
        )
    if config.needs_fits and made["mode"] == "none":
        other = ", or use stain.basis=hed" if config.mode == "jitter" else ""
        raise TrainError(
            f"{dataset.root}: holds no stain fits, which stain.mode={config.mode} needs; "
            f"make it again with `pathprep shard --stain fit`{other}"
        )
