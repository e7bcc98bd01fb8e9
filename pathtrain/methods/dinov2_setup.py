"""DINOv2 on a run's tiles: the loader's batches, with the masks of their global views."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pathprep.stain import Target
from pathtrain.data import order
from pathtrain.data.ahead import Ahead
from pathtrain.data.block_masks import masks
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.order import Ints
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.base import BatchSource, Setup
from pathtrain.methods.dinov2 import Dinov2
from pathtrain.methods.masked import Masked
from pathtrain.models import backbone
from pathtrain.models.patches import stride
from pathtrain.recipes.dinov2 import Dinov2Recipe

PLANNED = 2  # steps whose masks are made ahead


@dataclass(frozen=True)
class MaskedBatch:
    """One step's tiles on one rank; see pathtrain.data.loader.Batch."""

    views: Masked
    tiles: Ints
    wait: float


class MaskedLoader:
    """A loader, and masks that follow from the step as its views do.

    Args:
        loader: of the tiles.
        recipe: its ``batch``, ``ibot`` and ``seed``.
        side: of the global views' grid of patches.
    """

    def __init__(self, loader: Loader, recipe: Dinov2Recipe, side: int) -> None:
        self.loader, self.recipe, self.side = loader, recipe, side
        self._masks = Ahead(self._drawn, PLANNED)

    def __iter__(self) -> Iterator[MaskedBatch]:
        for step, batch in enumerate(self.loader, self.loader.start):
            yield MaskedBatch(Masked(batch.views, self._masks.at(step)), batch.tiles, batch.wait)

    def name(self, tile: int) -> str:
        """A tile's name, for messages."""
        return self.loader.name(tile)

    def news(self) -> list[str]:
        """Damaged tiles that were passed over since the last call."""
        return self.loader.news()

    def close(self) -> None:
        """Release files and threads."""
        self._masks.close()
        self.loader.close()

    def _drawn(self, step: int) -> torch.Tensor:
        recipe, ranks = self.recipe, self.loader.ranks
        ibot, grid = recipe.ibot, (self.side, self.side)
        positions = order.positions(step, recipe.batch, ranks.rank, ranks.world)
        views = recipe.views.globals.count
        return torch.from_numpy(
            masks(positions, recipe.batch, views, grid, ibot.share, ibot.ratio, ibot.fill, recipe.seed)
        )


class Dinov2Setup(Setup):
    """DINOv2 on a run's tiles."""

    recipe: Dinov2Recipe

    def method(self, total: int, device: torch.device, fresh: bool) -> Dinov2:
        """New networks."""
        return Dinov2(self.recipe, total, device, fresh)

    def source(self, start: int, ranks: Ranks, target: Target | None, held_out: Ints) -> BatchSource:
        """Batches of views with masks."""
        loader = Loader(self.data, BatchOptions.of(self.recipe), start, ranks, None, target, held_out)
        return MaskedLoader(loader, self.recipe, self._side())

    def _side(self) -> int:
        """Patches along a global view."""
        with torch.device("meta"):  # it is asked for its patches alone
            side = stride(backbone.build(self.recipe.model))
        assert side is not None  # a class token was trained, so it is a vision transformer
        return self.recipe.views.globals.size // side
