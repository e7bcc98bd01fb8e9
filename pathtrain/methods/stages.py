"""A slide's pixels through the three stages of a student: vectors of tiles, of regions, of the slide."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pathtrain.data.layout import Layout
from pathtrain.methods.gradient_cache import chunk_size, encode_chunks
from pathtrain.models.grid_vit import GridViT, region_vectors, slide_vector
from pathtrain.recipes.hierarchical import HierarchicalRecipe, SlideTasks

# How a slide goes through stages 1 and 2 where no phase says it
INFERENCE = SlideTasks(weight=1.0, batch=1, side=2, class_weights="none", checkpointing=False)
WHITE = 255


class Stages:
    """Stages 1 to 3 and the heads on slides.

    Args:
        recipe: normalisation, precision and the side of tiles.
        student: ``backbone``, ``stage2``, ``stage3`` and ``tasks`` of it are used.
        device: where they live.

    Attributes:
        chunk: tiles through stage 1 at a time where a phase does not say it; None until it is measured.
    """

    def __init__(self, recipe: HierarchicalRecipe, student: nn.ModuleDict, device: torch.device) -> None:
        self._student, self._device = student, device
        self._reduced, self._side = recipe.precision == "bfloat16", recipe.hierarchy.tile
        mean, std = (
            torch.tensor(value, device=device)[:, None, None]
            for value in (recipe.model.mean, recipe.model.std)
        )
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self.chunk: int | None = None

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 tiles (n, H, W, 3) on the device -> stage-1 vectors (n, D)."""
        images = (pixels.permute(0, 3, 1, 2).float() * self._scale + self._shift).contiguous()
        found: Tensor = self._student["backbone"](images)
        return found

    def regions(self, tiles: Tensor, layout: Layout, config: SlideTasks, save: bool) -> Tensor:
        """Region vectors (R, D2) of tile vectors (N + 1, D), the background last.

        Args:
            save: whether activations are computed again going back.
        """
        return region_vectors(self._stage("stage2"), tiles, layout, config.regions, self._device, save)

    def slide(self, regions: Tensor, layout: Layout, save: bool) -> Tensor:
        """The slide's vector (D3,)."""
        return slide_vector(self._stage("stage3"), regions, layout, save)

    def heads(self, vector: Tensor) -> list[Tensor]:
        """Per task (C,)."""
        tasks = self._student["tasks"]
        assert isinstance(tasks, nn.ModuleList)
        return [head(vector) for head in tasks]

    @torch.no_grad()
    def scores(self, pixels: Tensor, layout: Layout, config: SlideTasks | None = None) -> list[Tensor]:
        """Per task (C,) of a slide, float32, without dropout.

        Args:
            pixels: (N + 1, H, W, 3) uint8, the background last.
            layout: of its tiles.
            config: for the chunks.
        """
        return [scores.float() for scores in self.heads(self.vectors(pixels, layout, config)[2])]

    @torch.no_grad()
    def vectors(
        self, pixels: Tensor, layout: Layout, config: SlideTasks | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the tiles (N, D), the regions (R, D2) and the slide (D3,), without dropout."""
        config = config or INFERENCE
        if config.chunk is None and self.chunk is None:
            self.measure()
        with self._quiet():
            tiles = self._tiles(pixels, config)
            with self.cast():
                regions = self.regions(tiles, layout, config, False)
                slide = self.slide(regions, layout, False)
        return tiles[:-1].float(), regions.float(), slide.float()

    @torch.no_grad()
    def tile_vectors(self, pixels: Tensor, config: SlideTasks | None) -> Tensor:
        """(N + 1, D) on the CPU, without dropout and without a graph."""
        with self._quiet():
            return self._tiles(pixels, config or INFERENCE)

    def _tiles(self, pixels: Tensor, config: SlideTasks) -> Tensor:
        parts = torch.split(pixels, self.chunk_of(config))
        return encode_chunks(self.encode, parts, self._device, self.cast)

    def cast(self) -> torch.autocast:
        """The recipe's precision."""
        return torch.autocast(self._device.type, torch.bfloat16, self._reduced, cache_enabled=False)

    def chunk_of(self, config: SlideTasks) -> int:
        """The phase's chunk, else the measured one."""
        chunk = config.chunk or self.chunk
        assert chunk is not None, "not measured"
        return chunk

    def measure(self) -> None:
        """Find ``chunk``, which is kept from then on: what dropout draws depends on it."""
        white = torch.full((1, self._side, self._side, 3), WHITE, dtype=torch.uint8)
        with torch.enable_grad(), self.cast():
            parameters = self._student["backbone"].parameters()
            self.chunk = chunk_size(self.encode, parameters, white, self._device)

    def _stage(self, name: str) -> GridViT:
        found = self._student[name]
        assert isinstance(found, GridViT)
        return found

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Without dropout and stochastic depth."""
        modules = [self._student[name] for name in ("backbone", "stage2", "stage3")]
        for module in modules:
            module.eval()
        try:
            yield
        finally:
            for module in modules:
                module.train()
