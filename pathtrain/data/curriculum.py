"""What each step of a hierarchical run trains on: tiles, regions and slides, as its phase says.

Stateless as the loader of tiles: which tile, region and slide a step takes is computed from its number.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.stain import Target
from pathtrain.data import order
from pathtrain.data.damaged_tiles import Damage
from pathtrain.data.layout import Layout
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.order import Ints
from pathtrain.data.slide_labels import SlideLabels
from pathtrain.data.slide_stream import Request, SlideIndex, TileStream
from pathtrain.data.slide_views import drawn, orient, orientations
from pathtrain.data.source import NO_TILES
from pathtrain.data.trained_on import OneDataset
from pathtrain.data.work import Batch, Regions, Slide, Work
from pathtrain.distributed.ranks import ALONE, Ranks
from pathtrain.errors import TrainError
from pathtrain.recipes.hierarchical import HierarchicalRecipe, Phase
from pathtrain.stain.stage import stage

# Keep the orders of tiles, regions and slides apart, and those of the phases
_SEEDS = {"tile": 0, "region": 1, "slide": 2}
_PHASES = 16

log = logging.getLogger(__name__)


class Curriculum:
    """Batches from some step on.

    Args:
        dataset: of slides.
        recipe: phases, views, stain and seed.
        labels: None where no phase has slides.
        start: first step to give.
        ranks: this process takes every world-th sample of a step, and decodes on its device.
        target: what stain.mode normalize goes to.
        held_out: numbers of tiles (H,), rising, of whole slides that do not come; of none with a label.

    Raises:
        UsageError: a batch cannot be divided among the ranks; a phase asks for regions or labelled slides
            that are not there.
        DatasetError, TrainError: the dataset cannot serve the recipe; on iteration, a tar is gone, or too
            many tiles are damaged.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: HierarchicalRecipe,
        labels: SlideLabels | None,
        start: int = 0,
        ranks: Ranks = ALONE,
        target: Target | None = None,
        held_out: Ints = NO_TILES,
    ) -> None:
        self.dataset, self.recipe, self.labels, self.start = dataset, recipe, labels, start
        self.ranks, self.index = ranks, SlideIndex(dataset)
        self._target = target
        self._stage = stage([dataset], recipe.stain, recipe.seed, self.index.source.fits, target)
        self._held_out = held_out
        self._without = np.unique(self.index.tiles.slide_of(held_out))
        self._train = labels.of("train") if labels is not None else np.empty(0, np.int64)
        self._damage = Damage(self.index.source, recipe.seed, recipe.loader.max_damaged)
        self._told = 0
        self._tiles: Loader | None = None  # the present phase's
        self._tables: dict[tuple[int, float], Ints] = {}
        self._check()

    def name(self, tile: int) -> str:
        """A sample's slide and first tile, for messages."""
        return self.index.name(tile)

    def news(self) -> list[str]:
        """Damaged tiles that were met since the last call, in words."""
        found = self._damage.found[self._told :]
        self._told += len(found)
        passed_over = self._tiles.news() if self._tiles is not None else []
        return passed_over + [f"left white {tile}" for tile in found]

    def close(self) -> None:
        """Stop reading, and close files; iterating is over then. Tells of tiles that could not be fitted."""
        self._close_tiles()
        fitted, left = (0, 0) if self._stage is None else self._stage.counts()
        if left:
            log.warning("stain fitted on %d tiles of regions and slides, %d left as they are", fitted, left)
        self.index.source.close()

    def _close_tiles(self) -> None:
        if self._tiles is not None:
            self._tiles.close()
            self._tiles = None

    def __iter__(self) -> Iterator[Batch]:
        first, local = self.recipe.place(self.start)
        for number in range(first, len(self.recipe.hierarchy.phases)):
            yield from self._phase(number, local if number == first else 0)

    def _check(self) -> None:
        for phase in self.recipe.hierarchy.phases:
            for name in phase.objectives:
                batch = getattr(phase, name).batch
                if batch % self.ranks.world:
                    raise UsageError(
                        f"phase {phase.name}: {name}.batch {batch} cannot be divided among "
                        f"{self.ranks.world} ranks"
                    )
            if phase.slide is not None and not len(self._train):
                raise UsageError(
                    f"phase {phase.name} trains on slide labels: give `labels`, a CSV or Parquet file with "
                    "the columns slide_id and one per task"
                )
            if phase.region is not None and not len(self._regions(phase)):
                raise TrainError(
                    f"{self.dataset.root}: no region of {phase.region.side} x {phase.region.side} tiles has "
                    f"{phase.region.min_tiles:.0%} of them; lower region.min_tiles in phase {phase.name}"
                )

    def _regions(self, phase: Phase) -> Ints:
        assert phase.region is not None
        key = phase.region.side, phase.region.min_tiles
        if key not in self._tables:
            found = self.index.regions(*key)
            self._tables[key] = found[~np.isin(found[:, 0], self._without)]
        return self._tables[key]

    def _seed(self, phase: int, objective: str) -> int:
        return (self.recipe.seed * _PHASES + phase) * len(_SEEDS) + _SEEDS[objective]

    def _phase(self, number: int, start: int) -> Iterator[Batch]:
        phase = self.recipe.hierarchy.phases[number]
        self._close_tiles()
        self._tiles = self._loader(number, start) if phase.tile is not None else None
        tiles = iter(self._tiles) if self._tiles is not None else None
        region_pixels = iter(self._stream(number, start, "region")) if phase.region else None
        slide_pixels = iter(self._stream(number, start, "slide")) if phase.slide else None
        for step in range(start, phase.steps):
            started = time.perf_counter()
            views: list[Tensor] = []
            regions, slides, samples = None, [], []
            if tiles is not None and phase.due(step, "tile"):
                batch = next(tiles)
                views = batch.views
                samples.append(batch.tiles)
            if region_pixels is not None and phase.due(step, "region"):
                found, places = self._region_layouts(number, step)
                regions = Regions(next(region_pixels), Layout.joined(found), places)
                samples.append(np.array([layout.tiles[0] for layout in found]))
            if slide_pixels is not None and phase.due(step, "slide"):
                for row, layout, place in self._slide_layouts(number, step):
                    assert self.labels is not None
                    assert phase.slide is not None
                    pixels = next(slide_pixels)
                    if phase.slide.orient:
                        orient(pixels, orientations(layout.tiles, self._seed(number, "slide"), place))
                    known = torch.from_numpy(self.labels.values[row])
                    slides.append(Slide(pixels, layout, known, row))
                    samples.append(layout.tiles[:1])
            wait = time.perf_counter() - started
            yield Batch(Work(views, regions, slides), np.concatenate(samples), wait)

    def _loader(self, number: int, start: int) -> Loader:
        phase = self.recipe.hierarchy.phases[number]
        assert phase.tile is not None
        options = replace(
            BatchOptions.of(self.recipe), batch=phase.tile.batch, seed=self._seed(number, "tile")
        )
        first = phase.turns(start, "tile")
        return Loader(
            OneDataset(self.dataset), options, first, self.ranks, target=self._target, held_out=self._held_out
        )

    def _stream(self, number: int, start: int, objective: str) -> TileStream:
        phase = self.recipe.hierarchy.phases[number]
        make: Callable[[int, int], Iterator[Request]] = {
            "region": self._region_requests,
            "slide": self._slide_requests,
        }[objective]

        def requests() -> Iterator[Request]:
            for step in range(start, phase.steps):
                if phase.due(step, objective):
                    yield from make(number, step)

        on_device = objective == "slide" and phase.slide is not None and phase.slide.pixels == "device"
        size = self.recipe.hierarchy.tile
        return TileStream(
            self.index,
            requests,
            size,
            self._stage,
            self.ranks.device_id,
            on_device,
            self.ranks.threads,
            self._damage,
        )

    def _region_layouts(self, number: int, step: int) -> tuple[list[Layout], Ints]:
        phase = self.recipe.hierarchy.phases[number]
        assert phase.region is not None
        table, seed = self._regions(phase), self._seed(number, "region")
        turn = phase.turns(step, "region")
        places = order.positions(turn, phase.region.batch, self.ranks.rank, self.ranks.world)
        chosen = order.permuted(places, len(table), seed)
        return [self.index.region(table[which], phase.region.side) for which in chosen], places

    def _region_requests(self, number: int, step: int) -> Iterator[Request]:
        layouts, places = self._region_layouts(number, step)
        yield Request.of(layouts, np.full(len(places), self._seed(number, "region")), places)

    def _slide_layouts(self, number: int, step: int) -> Iterator[tuple[int, Layout, int]]:
        """Row in the labels, layout and position in the run of each slide of a step."""
        phase = self.recipe.hierarchy.phases[number]
        assert phase.slide is not None
        assert self.labels is not None
        turn, seed = phase.turns(step, "slide"), self._seed(number, "slide")
        places = order.positions(turn, phase.slide.batch, self.ranks.rank, self.ranks.world)
        chosen = order.permuted(places, len(self._train), seed)
        for which, place in zip(chosen, places.tolist(), strict=True):
            row = int(self._train[which])
            layout = self.index.slide(self.labels.slides[row], phase.slide.side)
            if phase.slide.draw is not None:
                layout = drawn(layout, phase.slide.draw, seed, place)
            yield row, layout, place

    def _slide_requests(self, number: int, step: int) -> Iterator[Request]:
        for _, layout, place in self._slide_layouts(number, step):
            yield Request.of([layout], np.array([self._seed(number, "slide")]), np.array([place]))
