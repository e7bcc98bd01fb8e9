"""Three vision transformers in a row: tiles -> tile vectors -> region vectors -> the slide's vector.

The scheme of HIPT (Chen et al. 2022, arXiv 2206.02647) and EXAONE Path 2.0 (arXiv 2507.06639). Stage 1 is a
timm transformer on the pixels of a tile; stages 2 and 3 are transformers on vectors that lie on a grid:
the k x k tiles of a region, and the regions of a slide. Their positions are sines and cosines of the cell's
column and row, so a grid may have any shape, and gaps, and no parameter depends on it.

A cell of a region without a tile is background: one white tile is embedded per slide and takes the place of
all of them. A region without any tile is left out.
"""

from collections.abc import Iterator

import numpy as np
import torch
from timm.models import named_apply
from timm.models.vision_transformer import Block, init_weights_vit_jax
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pathtrain.data.layout import Layout
from pathtrain.losses.precision import wide
from pathtrain.models.replay import Replay, join
from pathtrain.recipes.hierarchical import StageConfig

_TEMPERATURE = 10_000.0  # of the sines, as Vaswani et al. 2017 and MoCo v3 have it


class GridViT(nn.Module):
    """Vectors on a grid -> one vector: class token (or the mean), positions, pre-norm blocks, norm.

    Args:
        config: sizes, dropout and stochastic depth.
        inputs: length of the vectors that come in; a linear layer and GELU bring them to ``config.dim``, as
            HIPT does.
    """

    def __init__(self, config: StageConfig, inputs: int) -> None:
        super().__init__()
        self.dim = config.dim
        self.project = nn.Sequential(nn.Linear(inputs, config.dim), nn.GELU())
        self.token = nn.Parameter(torch.empty(1, 1, config.dim)) if config.pool == "token" else None
        depths = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList(
            Block(
                config.dim,
                config.heads,
                qkv_bias=True,
                proj_drop=config.dropout,
                attn_drop=config.dropout,
                drop_path=depth,
            )
            for depth in depths
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        named_apply(init_weights_vit_jax, self)  # unlike 0.02 for all widths, not drowned by the positions
        if self.token is not None:
            nn.init.trunc_normal_(self.token, std=0.02)

    def forward(self, vectors: Tensor, places: Tensor, save_memory: bool = False) -> Tensor:
        """The vectors of B grids.

        Args:
            vectors: (B, T, inputs) of T cells.
            places: (T, 2) column and row of each cell, from 0; the same for all grids.
            save_memory: keep only what goes into each block, and compute the rest again going back.

        Returns:
            (B, dim).
        """
        x = self.project(vectors)
        x = x + wide(sincos(places, self.dim).to(x))  # so float32 goes from block to block, as in stage 1
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if save_memory else block(x)
        found: Tensor = self.norm(x[:, 0] if self.token is not None else x.mean(dim=1))
        return found


def sincos(places: Tensor, dim: int) -> Tensor:
    """(T, dim) position vectors: a quarter each of sin and cos of the column, sin and cos of the row.

    Args:
        places: (T, 2) integers.
        dim: a multiple of 4.
    """
    scale = _TEMPERATURE ** (torch.arange(dim // 4, dtype=torch.float64, device=places.device) / (dim // 4))
    angles = places.to(torch.float64)[:, :, None] / scale  # (T, 2, dim / 4)
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)


def region_vectors(
    stage2: GridViT, vectors: Tensor, layout: Layout, group: int, device: torch.device, save_memory: bool
) -> Tensor:
    """(R, dim) vectors of a slide's regions, ``group`` regions at a time.

    Args:
        vectors: (N + 1, D) of the tiles in the layout's order, and last that of the background; anywhere:
            each group's part is brought to ``device``.
        save_memory: keep nothing of a group but its regions' vectors, and compute it again going back.
            ``vectors``, if gradients are wanted for them, must be a leaf that nothing else uses: their
            gradient takes their place, group by group, and ``vectors.grad`` is the same memory.
    """
    groups = _Groups(stage2, vectors, layout, group, device)
    if save_memory:
        return join(groups, device)
    return torch.cat([groups.regions(place, *groups.inputs(place)) for place in groups])


class _Groups:
    """A slide's regions, some at a time."""

    def __init__(
        self, stage2: GridViT, vectors: Tensor, layout: Layout, group: int, device: torch.device
    ) -> None:
        self._stage2, self._vectors, self._layout, self._device = stage2, vectors, layout, device
        self._places = cells_of(layout.side, device)
        starts = range(0, len(layout.counts), group)
        self._rows = [slice(start, start + group) for start in starts]
        ends = np.cumsum([layout.counts[rows].sum() for rows in self._rows]).tolist()
        self._tiles = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._rows)))

    def inputs(self, place: int) -> tuple[Tensor, Tensor]:
        """The tiles' vectors of a group, and the background's (1, D)."""
        return self._vectors[self._tiles[place]], self._vectors[-1:]

    def regions(self, place: int, tiles: Tensor, background: Tensor) -> Tensor:
        """The vectors of a group's regions, from its ``inputs``."""
        cells, first = self._layout.cells[self._rows[place]], self._tiles[place].start
        index = np.where(cells == len(self._layout.tiles), len(tiles), cells - first)
        table = torch.cat([tiles, background]).to(self._device)
        found: Tensor = self._stage2(table[torch.from_numpy(index).to(self._device)], self._places)
        return found

    def forward(self) -> Tensor:
        """All of them, without a graph."""
        self._replay = Replay(self._device)
        with torch.no_grad():
            return torch.cat([self.regions(place, *self.inputs(place)) for place in self])

    def backward(self, grads: Tensor) -> None:
        """Each group once more, and back."""
        wanted, data = self._vectors.requires_grad, self._vectors.detach()
        background = data[-1:].clone().requires_grad_(wanted)  # its gradient is that of all groups
        with self._replay.again():
            for place in self:
                tiles = data[self._tiles[place]].requires_grad_(wanted)
                with self._replay.cast():
                    found = self.regions(place, tiles, background)
                found.backward(grads[self._rows[place]])  # type: ignore[no-untyped-call]
                if tiles.grad is not None:
                    data[self._tiles[place]] = tiles.grad
        if background.grad is not None:
            data[-1:] = background.grad
            self._vectors.grad = data


def slide_vector(stage3: GridViT, regions: Tensor, layout: Layout, save_memory: bool) -> Tensor:
    """(dim,) of a slide, from the vectors (R, D) of its regions."""
    places = torch.from_numpy(layout.places).to(regions.device)
    found: Tensor = stage3(regions[None], places, save_memory)[0]
    return found


def cells_of(side: int, device: torch.device) -> Tensor:
    """(side * side, 2) column and row of the cells of a square, row by row."""
    steps = torch.arange(side, device=device)
    row, column = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([column, row], dim=2).flatten(0, 1)
