"""One slide -> one committed shard: the unit of work, of retry and of parallelism.

Blocks are read, then cut, normalised and encoded by an engine (engines/), by a few threads (every step
releases the GIL); their tiles are written in a fixed order, so the bytes do not depend on the threads.
With ``bake``, a tile whose own stain cannot be fitted needs the slide's pooled fit, which exists only when
every other tile has been seen: such tiles are read a second time at the end and stand last in the tar,
so memory stays flat in the slide's size.
"""

import io
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from pathprep import stain
from pathprep.dataset.marker import GridRecord, Marker, MaskRecord, SlideMarker, SlideRecord, StainRecord
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import TooCoarse
from pathprep.launchers.base import Progress
from pathprep.params.shard import ShardParams
from pathprep.sharding.blocks import Clock, Pack, Tiles, Worker, as_jpegs, record
from pathprep.sharding.survey import Survey, resolution, survey
from pathprep.sharding.task import DatasetTask
from pathprep.sharding.work import Sink, SlideWork
from pathprep.slides import facts, grid, outlines
from pathprep.slides.cross_check import Check
from pathprep.slides.find import SlideSource
from pathprep.slides.geojson import to_geojson
from pathprep.slides.grid import Cells, Grid
from pathprep.slides.identity import file_size
from pathprep.slides.mpp.settle import DEFAULT_MPP, Mpp
from pathprep.slides.own_names import printable
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import Slide
from pathprep.tiles import engines

Unit = TypeVar("Unit")
Made = TypeVar("Made")
PREVIEW_SIDE = 1024
# What becomes of the cells of a slide's grid
# small_pieces: would be kept with the pieces of tissue that were dropped for their size
COUNTS = ("kept", "little_tissue", "no_tissue", "over_max_tiles", "small_pieces")


@dataclass(frozen=True)
class ShardTask(DatasetTask[SlideSource, ShardParams]):
    """A slide to shard."""

    @property
    def pack(self) -> Pack:
        """See SlideWork."""
        return as_jpegs

    @property
    def previews(self) -> bool:
        """See SlideWork."""
        return True

    def sink(self) -> ShardWriter:
        """See SlideWork."""
        return ShardWriter(self.root, self.source.name, self.rebuild, self.params.tissue.shares)

    def make(self, progress: Progress) -> Marker:
        """See ``process``."""
        return process(self, progress)


def process(task: SlideWork, progress: Progress | None = None) -> Marker:
    """Make the tiles of one slide and commit them: into a shard, or wherever the work's sink takes them.

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
        state = source.path.stat()
        progress.stage(1)

        def marker(mpp: Mpp, plan: Grid, counts: dict[str, int], **more: Any) -> SlideMarker:
            if mpp.source != DEFAULT_MPP:
                del inputs["default_mpp"]
            if slide.bounds is None:  # with them, an origin has an effect
                inputs.pop("mask_origin", None)
            return SlideMarker(
                build_id=task.build_id,
                source=_source(source, state),
                inputs=inputs,
                slide_id=source.slide or source.name,
                own_name=printable(source.own_name),
                key_id=source.key_id,
                target_mpp=params.mpp,
                facts=_facts(slide, mpp, source),
                reader=slide.reader,
                vendor=slide.vendor,
                width=slide.width,
                height=slide.height,
                mpp=mpp.value,
                mpp_source=mpp.source,
                grid=GridRecord(**{each.name: getattr(plan, each.name) for each in fields(GridRecord)}),
                counts=counts,
                **more,
            )

        with clock("tissue"):
            try:
                seen = survey(slide, params, source.mpp, source.mask, source.mask_origin)
            except TooCoarse as error:
                if source.at is None:
                    raise
                return _leave_out(task, marker, slide, source.said(str(error)))
        chosen, counts = plan_tiles(seen, params, source.name)
        progress.planned(len(chosen))
        progress.stage(2)
        with (
            task.sink() as writer,
            ThreadPoolExecutor(1) as aside,
        ):
            # Python mostly, while the tiles are not
            previews = aside.submit(_previews, slide, seen) if task.previews else None
            check = None
            if params.cross_check:
                check = Check(source.path, seen.overview, slide.width, slide.height, seen.plan)
            engine = engines.of(params.device)
            worker = Worker(slide, seen.plan, seen.share, params, check, engine, task.pack, seen.shares)
            pooled = _write_tiles(writer, worker, chosen, task.threads, clock, progress)
            counts["kept"] -= writer.dropped.total()
            counts |= {reason: writer.dropped[reason] for reason in params.qc.reasons()}
            progress.stage(3)
            seconds = {**clock.seconds, "total": time.perf_counter() - start}
            made = marker(
                seen.mpp,
                seen.plan,
                counts,
                stain=writer.stain(),
                stain_fit=pooled,
                seconds=seconds,
                notes=seen.notes,
                mask=seen.given
                and MaskRecord(
                    seen.given.origin, seen.given.source, tuple(map(source.said, seen.given.notes))
                ),
            )
            return writer.commit(made, {} if previews is None else previews.result())


def _facts(slide: Slide, mpp: Mpp, source: SlideSource) -> facts.Facts:
    found = facts.decide(slide, mpp, source.name, printable(source.own_name))
    return found if source.alias is None else found.of(source.alias.all_said(found.as_dict()))


def _source(source: SlideSource, state: os.stat_result) -> SlideRecord:
    # when a slide was scanned tells of a patient: no pseudonym has it
    mtime = state.st_mtime if source.alias is None else None
    size = file_size(source.path) if stat.S_ISDIR(state.st_mode) else state.st_size
    return SlideRecord(source.recorded, size, mtime, source.recorded_mask)


def plan_tiles(seen: Survey, params: ShardParams, name: str) -> tuple[Cells, dict[str, int]]:
    """The cells that become tiles, (T, 2), and what became of every cell of the grid, by reason."""
    share, kept = seen.share, seen.kept
    groups = seen.plan.regions()[kept[:, 1], kept[:, 0]] if params.whole_regions else None
    chosen = grid.choose(kept, params.max_tiles, params.seed, name, groups)
    empty = int(np.count_nonzero(share[kept[:, 1], kept[:, 0]] == 0))  # kept with their region
    no_tissue = int(np.count_nonzero(share == 0)) - empty
    little = share.size - no_tissue - len(kept)
    small, small_alone = 0, 0
    if seen.swallowed is not None:
        small = int(seen.swallowed.sum())
        small_alone = int(np.count_nonzero(seen.swallowed & (share == 0)))  # counted as without tissue above
    left = (
        len(chosen),
        little - small + small_alone,
        no_tissue - small_alone,
        len(kept) - len(chosen),
        small,
    )
    return chosen, dict(zip(COUNTS, left, strict=True))


def _leave_out(task: SlideWork, marker: Callable[..., SlideMarker], slide: Slide, reason: str) -> Marker:
    """Commit that a slide has no tiles at one of several resolutions, which is no failure."""
    overview = slide.overview(max(1.0, max(slide.width, slide.height) / PREVIEW_SIDE))
    with task.sink() as writer:
        mpp = resolution(slide, task.params, task.source.mpp)
        plan = Grid(0, 1, side=1, stride=1, stored=1, mpp=mpp.value, columns=0, rows=0, per_region=1)
        nothing = dict.fromkeys(COUNTS, 0)
        left_out = marker(
            mpp, plan, nothing, stain={}, stain_fit=None, seconds={"total": 0.0}, left_out=reason
        )
        return writer.commit(left_out, {"jpg": _jpeg(overview)})


def _previews(slide: Slide, seen: Survey) -> dict[str, bytes]:
    polygons = outlines.contours(seen.mask, slide.width, slide.height)
    return {"jpg": _jpeg(seen.overview), "geojson": to_geojson(polygons, slide.bounds)}


def _jpeg(overview: Pixels) -> bytes:
    preview = Image.fromarray(overview)
    preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    picture = io.BytesIO()
    preview.save(picture, "JPEG", quality=85)
    return picture.getvalue()


def _write_tiles(
    writer: Sink,
    worker: Worker,
    cells: Cells,
    threads: int,
    clock: Clock,
    progress: Progress,
) -> StainRecord | None:
    """Write all tiles; returns the pooled fit as it is recorded."""
    fits: list[stain.StainFit] = []
    late: list[Cells] = []

    def write(tiles: Iterable[Tiles]) -> None:
        for part in tiles:
            clock.add(part.clock)
            with clock("write"):
                for data, row in part.packed:
                    writer.add(data, row)
                for row in part.dropped:
                    writer.drop(row)
            if part.fits is not None:
                fits.append(part.fits)
            late.append(part.deferred)
            statuses = Counter(row["stain_status"] for _, row in part.packed)
            progress.done(statuses + Counter(dropped=len(part.dropped)))

    with ThreadPoolExecutor(threads) as pool:
        write(in_order(pool, worker.first_pass, grid.blocks(worker.plan, cells), 2 * threads))
        pooled = stain.pool(stain.StainFit.join(fits)) if fits else None
        if pooled is not None:
            missing = np.concatenate(late)
            late.clear()
            second = grid.blocks(worker.plan, missing)
            write(in_order(pool, lambda block: worker.second_pass(block, pooled), second, 2 * threads))
    return record(pooled)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Unit], Made], units: Iterable[Unit], ahead: int
) -> Iterator[Made]:
    """Results in the order of the units, at most ``ahead`` of them in work or waiting."""
    running: deque[Future[Made]] = deque()
    try:
        for unit in units:
            running.append(pool.submit(work, unit))
            if len(running) > ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
