"""One slide -> one committed shard: the unit of work, of retry and of parallelism.

Blocks are read, then cut, normalised and encoded by an engine (engines/), by a few threads (every step
releases the GIL); their tiles are written in a fixed order, so the bytes do not depend on the threads.
With ``bake``, a tile whose own stain cannot be fitted needs the slide's pooled fit, which exists only when
every other tile has been seen: such tiles are read a second time at the end and stand last in the tar,
so memory stays flat in the slide's size.
"""

import io
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pathprep import stain
from pathprep.dataset.schema import STATUSES
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import TooCoarse
from pathprep.params.shard import ShardParams
from pathprep.sharding.blocks import Clock, Tiles, Worker, fit_columns
from pathprep.sharding.survey import Survey, resolution, survey
from pathprep.slides import cross_check as damage
from pathprep.slides import grid, masks
from pathprep.slides.find import SlideSource
from pathprep.slides.grid import Block, Cells, Grid
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import DEFAULT_MPP, Mpp, Slide
from pathprep.tiles import engines

STAGES = ("open", "tissue", "tiles", "commit", "upload")
PREVIEW_SIDE = 1024
# What becomes of the cells of a slide's grid
COUNTS = ("kept", "little_tissue", "no_tissue", "over_max_tiles")


@dataclass(frozen=True)
class ShardTask:
    """A slide to shard. ``threads`` change the speed, never the bytes; ``rebuild`` replaces what stands."""

    root: Path
    source: SlideSource
    params: ShardParams
    build_id: str
    threads: int = 1
    rebuild: bool = False
    dry: ClassVar[bool] = False

    def run(self, progress: "Progress") -> dict[str, Any]:
        """See ``process``."""
        return process(self, progress)


@dataclass
class Progress:
    """What a slide's worker tells the run while it works; the default tells nobody."""

    stage: Callable[[int], None] = lambda _stage: None
    planned: Callable[[int], None] = lambda _tiles: None
    done: Callable[[Counter[str]], None] = lambda _statuses: None


def process(task: ShardTask, progress: Progress | None = None) -> dict[str, Any]:
    """Shard one slide and commit it; returns the marker.

    Raises:
        SlideError: the slide cannot be used.
        OSError: the dataset folder cannot be written.
    """
    progress = progress or Progress()
    source, clock = task.source, Clock()
    params = task.params.at(source.at or task.params.mpp)
    params = replace(params, default_mpp=source.default_mpp or params.default_mpp)
    start = time.perf_counter()
    progress.stage(0)
    # before the first pixel: a slide that changes while it is read is made again by the next run
    inputs = source.inputs()
    with Slide(source.path, params.reader) as slide:
        marker = {
            "source": {
                "path": str(source.path),
                "size": source.path.stat().st_size,
                "mtime": source.path.stat().st_mtime,
                "mask": source.mask and str(source.mask),
            },
            "inputs": inputs,
            "build_id": task.build_id,
            "slide_id": source.slide or source.name,
            "target_mpp": params.mpp,
            "reader": slide.reader,
            "vendor": slide.vendor,
            "width": slide.width,
            "height": slide.height,
        }
        progress.stage(1)
        with clock("tissue"):
            try:
                found = survey(slide, params, source.mpp, source.mask)
            except TooCoarse as error:
                if source.at is None:
                    raise
                return _leave_out(task, marker, slide, str(error))
        chosen, counts = plan_tiles(found, params, source.name)
        progress.planned(len(chosen))
        progress.stage(2)
        with (
            ShardWriter(task.root, source.name, task.rebuild) as writer,
            ThreadPoolExecutor(1) as aside,
        ):
            previews = aside.submit(_previews, slide, found)  # Python mostly, while the tiles are not
            check = None
            if params.cross_check:
                check = damage.Check(source.path, found.overview, slide.width, slide.height, found.plan)
            worker = Worker(slide, found.plan, found.share, params, check, engines.of(params.device))
            statuses, pooled, dropped = _write_tiles(writer, worker, chosen, task.threads, clock, progress)
            counts["kept"] -= sum(dropped.values())
            counts |= dropped
            progress.stage(3)
            if found.mpp.source != DEFAULT_MPP:
                del inputs["default_mpp"]
            marker |= {
                **_describe(found.mpp, found.plan),
                "counts": counts,
                "stain": statuses,
                "stain_fit": pooled,
                "seconds": {**clock.seconds, "total": time.perf_counter() - start},
            }
            return writer.commit(marker, previews.result())


def plan_tiles(found: Survey, params: ShardParams, name: str) -> tuple[Cells, dict[str, int]]:
    """The cells that become tiles, (T, 2), and what became of every cell of the grid, by reason."""
    share, kept = found.share, found.kept
    groups = found.plan.regions()[kept[:, 1], kept[:, 0]] if params.whole_regions else None
    chosen = grid.choose(kept, params.max_tiles, params.seed, name, groups)
    empty = int(np.count_nonzero(share[kept[:, 1], kept[:, 0]] == 0))  # kept with their region
    no_tissue = int(np.count_nonzero(share == 0)) - empty
    left = (len(chosen), share.size - no_tissue - len(kept), no_tissue, len(kept) - len(chosen))
    return chosen, dict(zip(COUNTS, left, strict=True))


def _leave_out(task: ShardTask, marker: dict[str, Any], slide: Slide, reason: str) -> dict[str, Any]:
    """Commit that a slide has no tiles at one of several resolutions, which is no failure."""
    overview = slide.overview(max(1.0, max(slide.width, slide.height) / PREVIEW_SIDE))
    nothing = {"counts": dict.fromkeys(COUNTS, 0), "stain": {}, "stain_fit": None, "seconds": {"total": 0.0}}
    with ShardWriter(task.root, task.source.name, task.rebuild) as writer:
        mpp = resolution(slide, task.params, task.source.mpp)
        if mpp.source != DEFAULT_MPP:
            del marker["inputs"]["default_mpp"]
        plan = Grid(0, 1, side=1, stride=1, stored=1, mpp=mpp.value, columns=0, rows=0, per_region=1)
        marker |= {**_describe(mpp, plan), **nothing, "left_out": reason}
        return writer.commit(marker, {"jpg": _jpeg(overview)})


def _describe(mpp: Mpp, plan: Grid) -> dict[str, Any]:
    return {
        "mpp": mpp.value,
        "mpp_source": mpp.source,
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
    outlines = masks.contours(found.mask, slide.width, slide.height)
    return {"jpg": _jpeg(found.overview), "geojson": masks.to_geojson(outlines)}


def _jpeg(overview: Pixels) -> bytes:
    preview = Image.fromarray(overview)
    preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    picture = io.BytesIO()
    preview.save(picture, "JPEG", quality=85)
    return picture.getvalue()


def _write_tiles(
    writer: ShardWriter,
    worker: Worker,
    cells: Cells,
    threads: int,
    clock: Clock,
    progress: Progress,
) -> tuple[dict[str, int], dict[str, Any] | None, dict[str, int]]:
    """Write all tiles.

    Returns:
        Count per stain status, the pooled fit as it is recorded, dropped tiles per reason.
    """
    statuses: Counter[str] = Counter()
    dropped: Counter[str] = Counter({rule.reason: 0 for rule, _ in worker.params.qc.rules()})
    fits: list[stain.StainFit] = []
    late: list[Cells] = []

    def write(tiles: Iterable[Tiles]) -> None:
        for part in tiles:
            clock.add(part.clock)
            with clock("write"):
                for data, row in part.encoded:
                    writer.add(data, row)
                for row in part.dropped:
                    writer.drop(row)
            dropped.update(row["reason"] for row in part.dropped)
            if part.fits is not None:
                fits.append(part.fits)
            late.append(part.deferred)
            new = Counter(row["stain_status"] for _, row in part.encoded)
            statuses.update(new)
            progress.done(new + Counter(dropped=len(part.dropped)))

    with ThreadPoolExecutor(threads) as pool:
        write(_in_order(pool, worker.first_pass, grid.blocks(worker.plan, cells), 2 * threads))
        pooled = stain.pool(_join(fits)) if fits else None
        if pooled is not None:
            missing = np.concatenate(late)
            late.clear()
            second = grid.blocks(worker.plan, missing)
            write(_in_order(pool, lambda block: worker.second_pass(block, pooled), second, 2 * threads))
    counted = {status: statuses[status] for status in STATUSES if statuses[status]}
    fitted = pooled is not None and pooled.status[0] == stain.Status.FITTED
    fit = fit_columns(pooled, 0) if fitted and pooled is not None else None
    return counted, fit, dict(dropped)


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
