"""One slide -> one committed shard: the unit of work, of retry and of parallelism.

Blocks are read, cut, normalised and encoded by a few threads (every step releases the GIL); their
tiles are written in a fixed order, so the bytes do not depend on the threads. With ``bake``, a tile
whose own stain cannot be fitted needs the slide's pooled fit, which exists only when every other tile
has been seen: such tiles are read a second time at the end and stand last in the tar, so memory stays
flat in the slide's size.
"""

import io
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep import grid, jpeg, shards, stain, tissue
from pathprep.grid import Block, Cells, Grid
from pathprep.kernels.tiling_cpu import cut
from pathprep.params import ShardParams
from pathprep.readers.base import Pixels
from pathprep.slide import Mpp, Slide
from pathprep.sources import Source
from pathprep.survey import Survey, survey

STAGES = ("open", "tissue", "tiles", "commit")
PREVIEW_SIDE = 1024


@dataclass(frozen=True)
class Task:
    """A slide to shard. ``threads`` changes the speed, never the bytes."""

    root: Path
    source: Source
    params: ShardParams
    build_id: str
    threads: int = 1

    def run(self, progress: "Progress") -> dict[str, Any]:
        """See ``process``."""
        return process(self, progress)


@dataclass
class Progress:
    """What a slide's worker tells the run while it works; the default tells nobody."""

    stage: Callable[[int], None] = lambda _stage: None
    planned: Callable[[int], None] = lambda _tiles: None
    done: Callable[[Counter[str]], None] = lambda _statuses: None


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
    """What a block became: encoded tiles with their rows, and cells that need the slide's pooled fit."""

    encoded: list[tuple[bytes, dict[str, Any]]]
    deferred: Cells
    fits: stain.StainFit | None
    clock: Clock


def process(task: Task, progress: Progress | None = None) -> dict[str, Any]:
    """Shard one slide and commit it; returns the marker.

    Raises:
        SlideError: the slide cannot be used.
        OSError: the dataset folder cannot be written.
    """
    progress = progress or Progress()
    params, source, clock = task.params, task.source, Clock()
    start = time.perf_counter()
    progress.stage(0)
    # before the first pixel: a slide that changes while it is read is made again by the next run
    inputs = source.inputs()
    with Slide(source.path, params.reader) as slide:
        progress.stage(1)
        with clock("tissue"):
            found = survey(slide, params, source.mpp, source.mask)
            previews = _previews(slide, found)
        share, kept = found.share, found.kept
        chosen = grid.choose(kept, params.max_tiles, params.seed, source.name)
        counts = {
            "kept": len(chosen),
            "little_tissue": int(np.count_nonzero(share > 0)) - len(kept),
            "no_tissue": int(np.count_nonzero(share == 0)),
            "over_max_tiles": len(kept) - len(chosen),
        }
        progress.planned(len(chosen))
        progress.stage(2)
        with shards.ShardWriter(task.root, source.name) as writer:
            worker = _Worker(slide, found.plan, share, params)
            statuses, pooled = _write_tiles(writer, worker, chosen, task.threads, clock, progress)
            progress.stage(3)
            marker = {
                "source": {
                    "path": str(source.path),
                    "size": source.path.stat().st_size,
                    "mtime": source.path.stat().st_mtime,
                },
                "inputs": inputs,
                "build_id": task.build_id,
                **_describe(slide, found.mpp, found.plan),
                "counts": counts,
                "stain": statuses,
                "stain_fit": pooled,
                "seconds": {**clock.seconds, "total": time.perf_counter() - start},
            }
            return writer.commit(marker, previews)


def _describe(slide: Slide, mpp: Mpp, plan: Grid) -> dict[str, Any]:
    return {
        "reader": slide.reader,
        "vendor": slide.vendor,
        "mpp": mpp.value,
        "mpp_source": mpp.source,
        "width": slide.width,
        "height": slide.height,
        "grid": {
            "columns": plan.columns,
            "rows": plan.rows,
            "side": plan.side,
            "stride": plan.stride,
            "stored": plan.stored,
            "level": plan.level,
            "per_region": plan.per_region,
        },
    }


def _previews(slide: Slide, found: Survey) -> dict[str, bytes]:
    preview = Image.fromarray(found.overview)
    preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    picture = io.BytesIO()
    preview.save(picture, "JPEG", quality=85)
    outlines = tissue.contours(found.mask, slide.width, slide.height)
    return {"jpg": picture.getvalue(), "geojson": tissue.to_geojson(outlines)}


def _write_tiles(
    writer: shards.ShardWriter,
    worker: "_Worker",
    cells: Cells,
    threads: int,
    clock: Clock,
    progress: Progress,
) -> tuple[dict[str, int], dict[str, Any] | None]:
    """Write all tiles; returns the count per stain status and the pooled fit as it is recorded."""
    statuses: Counter[str] = Counter()
    fits: list[stain.StainFit] = []
    late: list[Cells] = []

    def write(tiles: Iterable[Tiles]) -> None:
        for part in tiles:
            clock.add(part.clock)
            with clock("write"):
                for data, row in part.encoded:
                    writer.add(data, row)
            if part.fits is not None:
                fits.append(part.fits)
            late.append(part.deferred)
            new = Counter(row["stain_status"] for _, row in part.encoded)
            statuses.update(new)
            progress.done(new)

    with ThreadPoolExecutor(threads) as pool:
        write(_in_order(pool, worker.first_pass, grid.blocks(worker.plan, cells), 2 * threads))
        pooled = stain.pool(_join(fits)) if fits else None
        if pooled is not None:
            missing = np.concatenate(late)
            late.clear()
            second = grid.blocks(worker.plan, missing)
            write(_in_order(pool, lambda block: worker.second_pass(block, pooled), second, 2 * threads))
    counted = {status: statuses[status] for status in shards.STATUSES if statuses[status]}
    fitted = pooled is not None and pooled.status[0] == stain.Status.FITTED
    return counted, _fit_columns(pooled, 0) if fitted and pooled is not None else None


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Block], Tiles], blocks: Iterable[Block], ahead: int
) -> Iterator[Tiles]:
    """Results in the order of the blocks, at most ``ahead`` of them in work or waiting."""
    running: deque[Future[Tiles]] = deque()
    try:
        for block in blocks:
            running.append(pool.submit(work, block))
            if len(running) > ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _join(fits: list[stain.StainFit]) -> stain.StainFit:
    return stain.StainFit(
        np.concatenate([fit.he for fit in fits]),
        np.concatenate([fit.max_c for fit in fits]),
        np.concatenate([fit.tissue_pixels for fit in fits]),
        np.concatenate([fit.status for fit in fits]),
    )


def _fit_columns(fit: stain.StainFit, number: int) -> dict[str, Any]:
    return {"he": fit.he[number].ravel().tolist(), "max_c": fit.max_c[number].tolist()}


@dataclass(frozen=True)
class _Worker:
    """The work on one block; called from several threads."""

    slide: Slide
    plan: Grid
    share: npt.NDArray[np.float64]
    params: ShardParams

    def first_pass(self, block: Block) -> Tiles:
        """Read, cut, fit; normalise and encode what has a fit of its own."""
        clock = Clock()
        pixels, qc = self._cut(block, clock)
        if self.params.stain.mode == "none":
            rows = [self._row(block, i, qc[i]) for i in range(len(pixels))]
            return Tiles(self._encode(pixels, rows, clock), block.cells[:0], None, clock)
        with clock("stain"):
            fits = self._fit(pixels)
        own = fits.status == stain.Status.FITTED
        return Tiles(self._finish(block, pixels, qc, fits, own, clock), block.cells[~own], fits, clock)

    def second_pass(self, block: Block, pooled: stain.StainFit) -> Tiles:
        """Tiles without a fit of their own, with the slide's: left as they are if it has none either."""
        clock = Clock()
        pixels, qc = self._cut(block, clock)
        with clock("stain"):
            fits = stain.fall_back(self._fit(pixels), pooled)
        every = np.ones(len(pixels), bool)
        return Tiles(self._finish(block, pixels, qc, fits, every, clock), block.cells[:0], None, clock)

    def _fit(self, pixels: Pixels) -> stain.StainFit:
        settings = self.params.stain
        return stain.fit(
            pixels,
            keep=settings.keep,
            alpha=settings.alpha,
            beta=settings.beta,
            io=settings.io,
            threads=1,  # blocks are what runs side by side
        )

    def _finish(
        self,
        block: Block,
        pixels: Pixels,
        qc: npt.NDArray[np.float32],
        fits: stain.StainFit,
        which: npt.NDArray[np.bool_],
        clock: Clock,
    ) -> list[tuple[bytes, dict[str, Any]]]:
        """Normalise (with ``bake``) and encode some of a block's tiles, each with its row."""
        settings = self.params.stain
        rows = [self._row(block, i, qc[i], fits) for i in np.flatnonzero(which).tolist()]
        pixels = pixels[which]
        if settings.mode == "bake":
            with clock("stain"):
                matrices = stain.matrix(fits, settings.target)[which]
                pixels = stain.apply(pixels, matrices, io=settings.io, threads=1)
        return self._encode(pixels, rows, clock)

    def _cut(self, block: Block, clock: Clock) -> tuple[Pixels, npt.NDArray[np.float32]]:
        with clock("read"):
            pixels = self.slide.read(self.plan.level, block.x, block.y, block.width, block.height)
        with clock("cut"):
            side = self.plan.side // self.plan.downsample
            tiles, qc = cut(pixels, block.origins, side, self.plan.stored)
        return tiles, qc

    def _encode(
        self, pixels: Pixels, rows: list[dict[str, Any]], clock: Clock
    ) -> list[tuple[bytes, dict[str, Any]]]:
        with clock("encode"):
            return [
                (jpeg.encode(tile, self.params.quality, self.params.subsampling), row)
                for tile, row in zip(pixels, rows, strict=True)
            ]

    def _row(
        self, block: Block, number: int, qc: npt.NDArray[np.float32], fits: stain.StainFit | None = None
    ) -> dict[str, Any]:
        column, row = block.cells[number].tolist()
        plan = self.plan
        values = {
            "x": column * plan.stride,
            "y": row * plan.stride,
            "column": column,
            "row": row,
            "region": plan.region(column, row),
            "side": plan.side,
            "stored": plan.stored,
            "mpp": plan.mpp,
            "tissue": float(self.share[row, column]),
            "saturation": float(qc[0]),
            "white": float(qc[1]),
            "focus": float(qc[2]),
            "stained": float(qc[3]),
            "stain_status": "none",
            "he": None,
            "max_c": None,
            "tissue_pixels": None,
        }
        if fits is not None:
            status = stain.Status(fits.status[number])
            values["stain_status"] = status.name.lower()
            values["tissue_pixels"] = int(fits.tissue_pixels[number])
            if status != stain.Status.UNFITTED:
                values |= _fit_columns(fits, number)
        return values
