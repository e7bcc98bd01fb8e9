"""Features straight from slides: processes read tiles as `pathprep shard` cuts them, the model takes them.

The same code as for shards finds tissue, cuts, filters and normalises (pathprep.streaming), and the same code
as for datasets resizes and encodes. So features are those of a dataset of the same parameters, but for JPEG:
of shards of `--quality 100 --subsampling 444` they differ by its rounding, of the same pixels by nothing.

The model does not wait: processes read several slides at once, and ahead; batches are filled across slides.
Memory is that of the processes, of the batches and of some tiles in between, whatever a slide's size:
features lie on the disk until their file is written. Each slide is made whole or not at all; one that fails
costs itself.
"""

import logging
import queue
import random
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.dataset.marker import SlideMarker
from pathprep.errors import UsageError
from pathprep.launchers import server
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import AnyPath, check_run
from pathprep.params.running import path as as_path
from pathprep.params.settings import flat, unknown
from pathprep.params.shard import MPP, ShardParams
from pathprep.sharding.names import with_names
from pathprep.sharding.plan import in_part
from pathprep.slides import find
from pathprep.slides.find import Found
from pathprep.streaming.sender import Columns
from pathprep.streaming.stream import OVER, Begun, Ended, Tiles, TileStream
from pathprep.words import counted
from pathtrain.distributed.workers import Place, cores
from pathtrain.features.encode import Passes, check_size
from pathtrain.features.facts import described, made_from
from pathtrain.features.files import FORMATS
from pathtrain.features.filling import Batch, Filling
from pathtrain.features.fitting import check_mpp
from pathtrain.features.progress import TileProgress
from pathtrain.features.slide_files import SlideFiles, Target
from pathtrain.features.slides_account import SlidesSummary, gathered
from pathtrain.features.spool import Spool
from pathtrain.features.write import settle
from pathtrain.params.encoding import Dtype, Format, How
from pathtrain.params.from_slides import SLIDE_TIMEOUT_S, TILE_SETTINGS
from pathtrain.runs.model import LoadedModel

# What ``embed`` takes for slides, beside the parameters of tiles
OPTIONS = frozenset({"masks", "mask_origin", "workers", "part", "slide_timeout", "tile_seed", *TILE_SETTINGS})
WRITING = 2  # slides that may wait for their file to be written

log = logging.getLogger(__name__)


def begin() -> None:
    """Have the process that readers are forked from load."""
    server.start()


def embed_slides(
    model: LoadedModel,
    slides: Sequence[AnyPath],
    out: Path,
    how: How,
    *,
    format: Format = "hdf5",
    dtype: Dtype = "float32",
    replace: bool = False,
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    workers: int | None = None,
    part: tuple[int, int] | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    **settings: Any,
) -> SlidesSummary:
    """Write the features of slides; see ``embed``.

    Args:
        model, out, how, format, dtype, replace: as of ``embed``.
        slides, masks, mask_origin: as of ``pathprep.shard``.
        workers: slides that are read at a time; None: one per core, two at least.
        part: (k, n): only slides whose name hashes to part k of n.
        slide_timeout: seconds in which a slide may give no tile though there is room for some.
        settings: of pathprep.params.shard.ShardParams, but for what only stored tiles have.

    Raises:
        UsageError: an argument is wrong, there is no slide, or ``out`` holds features of another model.
        OSError: ``out`` cannot be written.
        PeerError: another process stopped.
    """
    start = time.perf_counter()
    check_run(workers=workers, slide_timeout=slide_timeout, part=part)
    params = slide_params(model, how, settings)
    seen = _check_mpp(model, how, params, slides[0], out)
    found = _found(slides, as_path(masks), mask_origin)
    made, about = made_from(model, how, dtype), described(model, dtype)
    about |= {} if seen is None else {"mpp_seen": round(seen, 4)}
    settle(out, made, replace)
    files = SlideFiles(out, FORMATS[format], made, about, params)
    named = with_names(found.slides, out)
    found.repeats += named.repeats
    place = Place.of_environment()
    sources = [_told(each, params) for each in named.slides if part is None or in_part(each.name, *part)]
    mine = _share(files.targets(sources), place)
    todo = [target for target in mine if not files.is_done(target)]
    left = {target.name for target in todo}
    files.forget_failures(target for target in mine if target.name not in left)
    random.SystemRandom().shuffle(todo)  # so that several runs on one folder share the work
    summary = SlidesSummary.of(place, kept=len(mine) - len(todo), found=found, params=params)
    if todo:
        threads = how.threads or cores()
        run = _Run(model, how, files, todo, summary, threads)
        run.drive(workers or max(2, cores()), slide_timeout)
    summary.seconds = time.perf_counter() - start
    return gathered(summary, place)


def slide_params(model: LoadedModel, how: How, settings: dict[str, Any]) -> ShardParams:
    """What shapes the tiles: as asked for, and where nothing is said as the model wants it.

    ``tile`` is the side of the model's images, ``mpp`` what it was trained at (0.5 if it does not say). If
    the model has a stain target, tiles are normalised to it.

    Raises:
        UsageError: a setting is wrong, or ``stain`` does not go with the model.
    """
    for name in settings:
        if name not in OPTIONS:
            raise unknown(name, {**flat(How), **dict.fromkeys(OPTIONS)})
    given = dict(settings)
    given.setdefault("tile", how.short or check_size(model, how.size))
    given.setdefault("mpp", model.mpp or MPP)
    if "tile_seed" in given:
        given["seed"] = given.pop("tile_seed")
    target = model.target
    if target is None:
        return ShardParams.of(**{"stain": "none", **given})
    if given.get("stain", "bake") != "bake":
        raise UsageError(
            f"`stain` {given['stain']}: {model.name} was trained on normalised tiles; leave it out, and they "
            "are normalised to its target"
        )
    for name in ("stain_keep", "stain_beta"):
        if name in given:
            raise UsageError(f"`{name}`: is {model.name}'s own, with its target; leave it out")
    params = ShardParams.of(**{**given, "stain": "bake", "target": target.target})
    own = {"keep": target.keep, "alpha": target.alpha, "beta": target.beta, "io": target.io}
    return _replaced(params, stain=_replaced(params.stain, **own))


def _check_mpp(model: LoadedModel, how: How, params: ShardParams, source: AnyPath, out: Path) -> float | None:
    """Refuse tiles that the model would see at another MPP than it was trained at; what it sees, if known."""
    try:
        return check_mpp(model, params.tile, params.mpp, how, str(source), str(out))
    except UsageError as error:
        what = str(error).partition(". Make tiles for it")[0]
        raise UsageError(
            f"{what}; leave `mpp` and `tile` out, which are then the model's own, or give `any_mpp`"
        ) from None


_replaced = replace  # ``replace`` is an argument of ``embed_slides``


def _found(slides: Sequence[AnyPath], masks: Path | None, mask_origin: AskedOrigin) -> Found:
    try:
        return find.look([Path(each) for each in slides], masks, mask_origin)
    except UsageError as error:
        if len(slides) == 1 and Path(slides[0]).is_dir() and "no slides in this folder" in str(error):
            raise UsageError(
                f"{error}; nor is it a dataset (dataset.json, from `pathprep shard`) or a folder of labelled "
                "images (labels.csv with the columns file, label and perhaps group)"
            ) from None
        raise


def _told(source: find.SlideSource, params: ShardParams) -> find.SlideSource:
    """A slide with what the run says of it; a process may have another working folder."""
    if source.mask is not None and not source.mask.is_file():
        raise UsageError(f"{source.mask}: no such mask (for slide {source.path})")
    return _replaced(source, default_mpp=params.default_mpp, mask=source.mask and source.mask.absolute())


def _share(targets: list[Target], place: Place) -> list[Target]:
    """Slides of one of several processes, by their files' sizes; all processes agree."""
    if place.world == 1:
        return targets
    sizes = {target.name: target.source.measures()[0] or 0 for target in targets}
    loads, mine = [0] * place.world, []
    for target in sorted(targets, key=lambda each: (-sizes[each.name], each.name)):
        least = loads.index(min(loads))
        loads[least] += sizes[target.name] + 1
        if least == place.rank:
            mine.append(target)
    return mine


@dataclass
class _Slide:
    """A slide whose tiles are coming."""

    number: int
    spool: Spool
    columns: list[Columns] = field(default_factory=list)
    marker: SlideMarker | None = None


class _Run:
    """Slides to files: this process's."""

    def __init__(
        self,
        model: LoadedModel,
        how: How,
        files: SlideFiles,
        todo: list[Target],
        summary: SlidesSummary,
        threads: int,
    ) -> None:
        self._model, self._how, self._files, self._todo = model, how, files, todo
        self._summary, self._threads = summary, threads
        self._open: dict[int, _Slide] = {}
        self._writing: list[Future[None]] = []
        self._progress = TileProgress(0, "embed")

    def drive(self, workers: int, timeout: float) -> None:
        """Do all slides; the summary has what became of them."""
        start = time.perf_counter()
        with ExitStack() as stack:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
            stack.callback(self._writer.shutdown, cancel_futures=True)
            # readers start while the model goes to its device
            stream = stack.enter_context(
                TileStream(
                    [target.source for target in self._todo],
                    self._files.params,
                    self._files.out,
                    wanted=lambda number: not self._files.is_done(self._todo[number]),
                    workers=workers,
                    timeout=timeout,
                )
            )
            self._passes = stack.enter_context(Passes([self._model], self._how))
            size = check_size(self._model, self._how.size)
            self._shape = self._model.shape(size)
            filling = Filling(
                size, self._how.batch, self._threads, self._how.short, pinned=self._passes.on_card
            )
            stack.callback(filling.close)
            while (event := self._next(stream, filling)) is not None:
                if isinstance(event, Begun):
                    self._forget(event.slide)
                    self._open[event.slide] = _Slide(event.slide, Spool(self._files.out))
                elif isinstance(event, Tiles):
                    self._progress.expect(stream.board.totals()[0])
                    slide = self._open.get(event.slide)
                    if slide is None:  # what was left of one that failed
                        event.release()
                        continue
                    slide.columns.append(event.columns)
                    for batch in filling.add(slide, event):
                        self._encode(batch)
                else:
                    self._ended(event)
            for batch in filling.rest():
                self._encode(batch)
            self._passes.finish()
            for writing in self._writing:
                writing.result()
            if stream.account.stopped != OVER:
                self._summary.stopped = stream.account.stopped
        self._summary.busy_seconds = time.perf_counter() - start

    def _next(self, stream: TileStream, filling: Filling) -> Begun | Tiles | Ended | None:
        """The next event. The model waits if there is none, and all that it was given is done."""
        try:
            return stream.get(0)
        except queue.Empty:
            pass
        while (batch := filling.ready()) is not None:
            self._encode(batch)
        try:
            return stream.get(0)
        except queue.Empty:
            self._passes.finish()
        start = time.perf_counter()
        try:
            return stream.get()
        finally:
            self._summary.waited_seconds += time.perf_counter() - start

    def _encode(self, batch: Batch) -> None:
        found = np.empty((batch.filled, *self._shape), np.float32)
        self._passes.add(batch.images[: batch.filled], [found], partial(self._arrived, batch, found))

    def _arrived(self, batch: Batch, found: npt.NDArray[np.float32]) -> None:
        """Features of a batch, to their slides."""
        start = 0
        for slide, count in batch.parts:
            current = self._open.get(slide.number)
            if current is not None and slide is current:  # else void: its process died
                slide.spool.append(found[start : start + count])
                self._finish(slide)
            start += count
        self._progress.advance(start)

    def _ended(self, event: Ended) -> None:
        target = self._todo[event.slide]
        if event.failure is not None:
            self._forget(event.slide)
            if self._files.is_done(target):  # by another run meanwhile
                self._summary.kept += 1
                return
            entry = self._files.write_failed(target, event.failure)
            self._summary.failures[target.name] = entry
            self._progress.note(f"{target.name}: failed ({entry.error})")
        elif event.marker is None:
            self._summary.kept += 1
        elif event.marker.tiles == 0:
            self._forget(event.slide)
            self._files.write_empty(target, event.marker)
            self._summary.add(target.name, event.marker)
        else:
            slide = self._open[event.slide]
            slide.marker = event.marker
            self._finish(slide)

    def _forget(self, number: int) -> None:
        if (old := self._open.pop(number, None)) is not None:
            old.spool.close()

    def _finish(self, slide: _Slide) -> None:
        """Have a slide's file written if all of its features are there."""
        marker = slide.marker
        if marker is None or slide.spool.rows < marker.tiles:
            return
        del self._open[slide.number]
        target = self._todo[slide.number]
        part, features = self._files.part(target, marker, slide.columns), slide.spool.all()
        self._summary.add(target.name, marker, features.shape[1:])
        while len(self._writing) >= WRITING:
            self._writing.pop(0).result()
        self._writing.append(self._writer.submit(self._write, part, features, slide.spool))
        self._progress.line(f"{target.name}: {counted(marker.tiles, 'tile')}")

    def _write(self, part: Any, features: Any, spool: Spool) -> None:
        try:
            self._files.write(part, features)
        finally:
            spool.close()
