"""The work on one block of a slide: read, cut, check, drop, fit, normalise, encode (or hand on as pixels).

The steps on pixels run on an engine (engines/); every step releases the GIL.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep import stain
from pathprep.dataset.marker import StainRecord
from pathprep.dataset.schema import SHARE
from pathprep.errors import DeviceError
from pathprep.images import jpeg
from pathprep.params.quality import REASONS
from pathprep.params.shard import ShardParams
from pathprep.slides.cross_check import Check
from pathprep.slides.grid import Block, Cells, Grid
from pathprep.slides.slide import Slide
from pathprep.tiles import engines
from pathprep.tiles.qc import FIGURES, Figures, verdicts


@dataclass
class Clock:
    """Seconds spent per stage. Every thread has its own; the slide's is their sum."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def add(self, other: "Clock") -> None:
        """Sum another clock into this one."""
        for name, value in other.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value


@dataclass
class Tiles:
    """What a block became: tiles as they are passed on, each with its row, rows of those that a quality
    filter dropped, and cells that need the slide's pooled fit."""

    packed: list[tuple[Any, dict[str, Any]]]
    dropped: list[dict[str, Any]]
    deferred: Cells
    fits: stain.StainFit | None
    clock: Clock


# What is passed on of tiles, one each
Pack = Callable[[engines.Engine, engines.Tiles, ShardParams], list[Any]]


def as_jpegs(engine: engines.Engine, tiles: engines.Tiles, params: ShardParams) -> list[Any]:
    """Tiles as a dataset stores them: the bytes of a JPEG each."""
    if params.encoder == "cpu":
        return [jpeg.encode(tile, params.quality, params.subsampling) for tile in engine.host(tiles)]
    return engine.encode(tiles, params.quality, params.subsampling)


def as_pixels(engine: engines.Engine, tiles: engines.Tiles, params: ShardParams) -> list[Any]:
    """Tiles as they were cut and normalised: (stored, stored, 3) uint8 each."""
    return list(engine.host(tiles))


def stain_columns(fits: stain.StainFit | None, number: int) -> dict[str, Any]:
    """What the index records of a tile's stain; ``fits``: None if none was looked for."""
    if fits is None:
        return {"stain_status": "none", "he": None, "max_c": None, "tissue_pixels": None}
    status = stain.Status(fits.status[number])
    columns = {"stain_status": status.name.lower(), "tissue_pixels": int(fits.tissue_pixels[number])}
    if status == stain.Status.UNFITTED:
        return columns | {"he": None, "max_c": None}
    return columns | {"he": fits.he[number].ravel().tolist(), "max_c": fits.max_c[number].tolist()}


def record(pooled: stain.StainFit | None) -> StainRecord | None:
    """What the marker records of the pooled fit; None if there is none."""
    if pooled is None or pooled.status[0] != stain.Status.FITTED:
        return None
    return StainRecord.of(pooled, 0)


@dataclass(frozen=True)
class Worker:
    """The work on one block; called from several threads.

    Attributes:
        pack: makes of tiles what is passed on; see ``as_jpegs``.
        shares: of ``Survey``.
    """

    slide: Slide
    plan: Grid
    share: npt.NDArray[np.float64]
    params: ShardParams
    check: Check | None
    engine: engines.Engine
    pack: Pack = as_jpegs
    shares: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def first_pass(self, block: Block) -> Tiles:
        """Read, cut, drop, fit; normalise and pack what has a fit of its own."""
        clock = Clock()
        with self._cut(block, clock) as (tiles, qc):
            block, tiles, qc, dropped = self._sift(block, tiles, qc)
            if self.params.stain.mode == "none":
                rows = [self._row(block, i, qc[i]) for i in range(len(qc))]
                return Tiles(self._packed(tiles, rows, clock), dropped, block.cells[:0], None, clock)
            with clock("stain"):
                fits = self.engine.fit(tiles, self.params.stain)
            own = fits.status == stain.Status.FITTED
            finished = self._finish(block, tiles, qc, fits, own, clock)
            return Tiles(finished, dropped, block.cells[~own], fits, clock)

    def second_pass(self, block: Block, pooled: stain.StainFit) -> Tiles:
        """Tiles without a fit of their own, with the slide's: left as they are if it has none either.

        They passed the quality filters in the first pass.
        """
        clock = Clock()
        with self._cut(block, clock) as (tiles, qc):
            with clock("stain"):
                fits = stain.fall_back(self.engine.fit(tiles, self.params.stain), pooled)
            finished = self._finish(block, tiles, qc, fits, np.ones(len(qc), bool), clock)
            return Tiles(finished, [], block.cells[:0], None, clock)

    @contextmanager
    def _cut(self, block: Block, clock: Clock) -> Iterator[tuple[engines.Tiles, Figures]]:
        """The tiles of a block and their figures; within it, the engine works on that block."""
        with clock("read"):
            pixels = self.slide.read(self.plan.level, block.x, block.y, block.width, block.height)
        side = self.plan.side // self.plan.downsample
        try:
            with self.engine.block():
                with clock("cut"):
                    tiles, qc = self.engine.cut(pixels, block.origins, side, self.plan.stored)
                    if self.check is not None:
                        self.check.tiles(block, tiles, self.engine.host)
                yield tiles, qc
        except DeviceError as error:
            raise type(error)(f"{self.slide.path}: {error}") from None

    def _sift(
        self, block: Block, tiles: engines.Tiles, qc: Figures
    ) -> tuple[Block, engines.Tiles, Figures, list[dict[str, Any]]]:
        """Block, tiles and figures of what passes the quality filters, and rows of the others."""
        reasons = [REASONS[rule] if rule >= 0 else "" for rule in verdicts(qc, self.params.qc).tolist()]
        for name, most in self.params.qc.shares().items():
            here = self.shares[name][block.cells[:, 1], block.cells[:, 0]]
            over = np.flatnonzero(here.astype(np.float32) > np.float32(most)).tolist()
            reasons = [r or (f"{SHARE}{name}" if i in over else "") for i, r in enumerate(reasons)]
        passes = np.array([not reason for reason in reasons], bool)
        fails = np.flatnonzero(~passes).tolist()
        dropped = [self._row(block, i, qc[i]) | {"reason": reasons[i]} for i in fails]
        rest = replace(block, cells=block.cells[passes], origins=block.origins[passes])
        return rest, self.engine.select(tiles, passes), qc[passes], dropped

    def _finish(
        self,
        block: Block,
        tiles: engines.Tiles,
        qc: Figures,
        fits: stain.StainFit,
        which: npt.NDArray[np.bool_],
        clock: Clock,
    ) -> list[tuple[Any, dict[str, Any]]]:
        """Normalise (with ``bake``) and pack some of a block's tiles, each with its row."""
        settings = self.params.stain
        rows = [self._row(block, i, qc[i], fits) for i in np.flatnonzero(which).tolist()]
        tiles = self.engine.select(tiles, which)
        if settings.mode == "bake":
            with clock("stain"):
                matrices = stain.matrix(fits, settings.target or stain.Target.default())[which]
                tiles = self.engine.apply(tiles, matrices, settings.io)
        return self._packed(tiles, rows, clock)

    def _packed(
        self, tiles: engines.Tiles, rows: list[dict[str, Any]], clock: Clock
    ) -> list[tuple[Any, dict[str, Any]]]:
        with clock("encode"):
            packed = self.pack(self.engine, tiles, self.params)
        return list(zip(packed, rows, strict=True))

    def _row(
        self, block: Block, number: int, qc: npt.NDArray[np.float32], fits: stain.StainFit | None = None
    ) -> dict[str, Any]:
        column, row = block.cells[number].tolist()
        plan = self.plan
        return {
            "x": column * plan.stride,
            "y": row * plan.stride,
            "column": column,
            "row": row,
            "region": plan.region(column, row),
            "side": plan.side,
            "stored": plan.stored,
            "mpp": plan.mpp,
            "tissue": float(self.share[row, column]),
            **{f"{SHARE}{name}": float(share[row, column]) for name, share in self.shares.items()},
            **dict(zip(FIGURES, qc.tolist(), strict=True)),
            **stain_columns(fits, number),
        }
