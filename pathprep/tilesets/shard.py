"""One shard of a tile set: the unit of work, of retry and of parallelism, as pipeline.py is for a slide."""

import hashlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from pathprep import stain
from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import DamagedImage, Marker, SourceRecord, StainRecord, TileSetMarker
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import UnreadableSlide
from pathprep.images import limits
from pathprep.launchers.base import Failure, Progress
from pathprep.params.tile_set import TileParams
from pathprep.sharding.blocks import record, stain_columns
from pathprep.sharding.pipeline import in_order
from pathprep.sharding.task import DatasetTask
from pathprep.slides.alias import Alias, Aliased
from pathprep.tiles import engines
from pathprep.tiles.engines import Engine
from pathprep.tiles.qc import FIGURES
from pathprep.tilesets import apart, hidden
from pathprep.tilesets.images import Picture, is_named_jpeg
from pathprep.tilesets.items import Item
from pathprep.tilesets.reading import PATIENCE_S, Images

AHEAD = 128  # images in memory at a time


@dataclass(frozen=True)
class Part(Aliased):
    """What one shard is made of.

    Attributes:
        name: of the shard. path: the set's folder. set, split: whose part it is. items: in their order.
        alias: of the set, see TileSet.
        bare: whether JPEGs that keep their picture are stored without their metadata.
    """

    name: str
    path: Path
    set: str
    split: str
    items: list[Item]
    alias: Alias | None = None
    bare: bool = True

    def said(self, text: str) -> str:
        """See sharding.task.Origin."""
        return self.said_of(self.items, text)

    def said_of(self, items: Sequence[Item], text: str) -> str:
        """A message about some of its images, as ``said``."""
        return text if self.alias is None else hidden.said(self.alias, items, text)

    def inputs(self, unread: Collection[str] = ()) -> dict[str, Any]:
        """What its tiles depend on besides the parameters: names, labels, and the files' size and time.

        The time, because uncompressed images of one side have one size, whatever is in them. Parts with JPEGs
        say that these are stored without metadata: those of before, which are not, are made again.

        Args:
            unread: files that could not be read; they count as absent, so that the next run tries them again.
        """
        states: dict[str, Any] = dict.fromkeys(unread)
        digest = hashlib.sha256()
        for item in self.items:
            if item.file not in states:
                states[item.file] = _state(self.path / item.file)
            values = [item.source, item.label, item.group, states[item.file]]
            digest.update(json.dumps(values).encode() + b"\n")
        made = {"images": len(self.items), "sha256": digest.hexdigest()}
        jpegs = self.bare and any(item.row is None and is_named_jpeg(item.file) for item in self.items)
        return {**made, "metadata": "dropped"} if jpegs else made

    def made(self, path: str, size: int | None) -> bool:
        """Whether a shard of this name was made of this set: another set's would have been refused."""
        return True


def _state(path: Path) -> list[int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


@dataclass(frozen=True)
class ImportTask(DatasetTask[Part, TileParams]):
    """A shard to make.

    Attributes:
        patience: seconds for one image.
        suspects: numbers of images at one of which a worker died: looked at apart first.
    """

    patience: float = PATIENCE_S
    suspects: frozenset[int] = frozenset()

    def failed(self, failure: Failure) -> FailedShard:
        """See DatasetTask."""
        part, source = self.source, SourceRecord(self.source.recorded, None)
        return replace(super().failed(failure), source=source, set=part.set, split=part.split)

    def suspecting(self, parts: Collection[int]) -> Self | None:
        """See launchers.base.Parted: parts are images, by their number."""
        more = frozenset(parts) - self.suspects
        return replace(self, suspects=self.suspects | more) if more else None

    def make(self, progress: Progress) -> Marker:
        """See ``process``."""
        return process(self, progress)


class Made(NamedTuple):
    """What became of one image: a tile with its row, or only a fit, or the reason why it is neither.

    ``unread``: it could not be read this time; it may be whole.
    """

    number: int
    tile: tuple[bytes, dict[str, Any]] | None = None
    fit: stain.StainFit | None = None
    problem: str = ""
    unread: bool = False


def process(task: ImportTask, progress: Progress | None = None) -> Marker:
    """Make one shard and commit it.

    An image that cannot be used costs itself, not the shard; the marker's ``damaged`` names it and says why.
    If it could not be read (rights, a mount), the next run tries it again.

    Raises:
        UnreadableSlide: the set's folder is gone, or does not answer.
        OSError: the dataset folder cannot be written.
    """
    progress, part = progress or Progress(), task.source
    start = time.perf_counter()
    progress.stage(0)
    if not part.path.is_dir():
        raise UnreadableSlide(f"{part.path}: the set's folder is gone; mount it and run the command again")
    progress.planned(len(part.items))
    progress.stage(2)
    with ExitStack() as stack:
        writer = stack.enter_context(ShardWriter(task.root, part.name, task.rebuild))
        in_rows = any(item.row is not None for item in part.items)
        images = Images(
            part.path,
            in_rows=in_rows,
            patience=task.patience,
            keep_metadata=task.params.keep_metadata,
            crop=task.params.crop,
        )
        deadly = {
            number: how
            for number in sorted(task.suspects)
            if (how := apart.kills(part.path, part.items[number], task.patience, task.params.crop))
        }
        worker = _Worker(part, task.params, stack.enter_context(images), progress, deadly)
        before = part.inputs()
        damaged, unread, pooled = _write_tiles(writer, worker, task.threads, progress)
        inputs = part.inputs(unread) if unread else before
        progress.stage(3)
        kept = [item for number, item in enumerate(part.items) if number not in damaged]
        marker = TileSetMarker(
            build_id=task.build_id,
            source=SourceRecord(part.recorded, _size(part)),
            set=part.set,
            split=part.split,
            key_id=part.key_id,
            inputs=inputs,
            mpp=task.params.mpp,
            mpp_source="not known" if task.params.mpp is None else "--mpp",
            counts={"kept": len(kept), "damaged": len(damaged)},
            damaged=tuple(
                DamagedImage(part.items[number].source, part.said_of([part.items[number]], problem))
                for number, problem in sorted(damaged.items())
            ),
            labels=Counter(item.label or "" for item in kept),
            groups=len({item.group for item in kept} - {None}),
            stain=writer.stain(),
            stain_fit=pooled,
            seconds={"total": time.perf_counter() - start},
        )
        return writer.commit(marker, {})


def _size(part: Part) -> int:
    states = (_state(part.path / file) for file in dict.fromkeys(item.file for item in part.items))
    return sum(state[0] for state in states if state)


def _write_tiles(
    writer: ShardWriter, worker: "_Worker", threads: int, progress: Progress
) -> tuple[dict[int, str], set[str], StainRecord | None]:
    """Write all tiles; those without a fit of their own are read again when the pooled fits are known.

    Returns:
        Why an image is no tile, by its number; files that could not be read this time; the shard's pooled fit
        as it is recorded.
    """
    items = worker.part.items
    damaged: dict[int, str] = {}
    unread: set[str] = set()
    fits: dict[int, stain.StainFit] = {}

    def write(images: Iterable[Made]) -> None:
        for made in images:
            if made.problem:
                damaged[made.number] = made.problem
            if made.unread:
                unread.add(items[made.number].file)
            if made.fit is not None:
                fits[made.number] = made.fit
            if made.tile is not None:
                writer.add(*made.tile)
                progress.done(Counter([made.tile[1]["stain_status"]]))

    with ThreadPoolExecutor(threads) as pool:
        write(in_order(pool, worker.first_pass, range(len(items)), AHEAD))
        if not fits:
            return damaged, unread, None
        whole = stain.pool(stain.StainFit.join([*fits.values()]))
        groups: dict[str, list[stain.StainFit]] = {}
        for number, fit in fits.items():
            groups.setdefault(items[number].group or "", []).append(fit)
        pooled = {group: stain.pool(stain.StainFit.join(own)) for group, own in groups.items() if group}
        usual = {group: own for group, own in pooled.items() if own.status[0] == stain.Status.FITTED}
        late = [number for number, fit in fits.items() if fit.status[0] != stain.Status.FITTED]

        def second_pass(number: int) -> Made:
            return worker.second_pass(number, usual.get(items[number].group or "", whole))

        write(in_order(pool, second_pass, late, AHEAD))
    return damaged, unread, record(whole)


@dataclass(frozen=True)
class _Worker:
    """The work on one image, by its number; called from several threads."""

    part: Part
    params: TileParams
    images: Images
    progress: Progress
    deadly: Mapping[int, str]
    engine: Engine = field(default_factory=lambda: engines.of("cpu"))
    own: threading.local = field(default_factory=threading.local)
    threads: Iterator[int] = field(default_factory=itertools.count)

    def first_pass(self, number: int) -> Made:
        """Read, fit; encode what has a fit of its own, or needs none."""
        picture = self._read(number)
        if isinstance(picture, Made):
            return picture
        if self.params.stain.mode == "none":
            return Made(number, self._finish(number, picture, None))
        fit = self.engine.fit(picture.pixels[None], self.params.stain)
        if fit.status[0] != stain.Status.FITTED:
            return Made(number, fit=fit)
        return Made(number, self._finish(number, picture, fit), fit)

    def second_pass(self, number: int, pooled: stain.StainFit) -> Made:
        """With the pooled fit; left as it is if that is none either."""
        picture = self._read(number)
        if isinstance(picture, Made):  # it could be read a moment ago
            return picture._replace(problem=f"changed while it was read ({picture.problem})")
        fit = self.engine.fit(picture.pixels[None], self.params.stain)
        return Made(number, self._finish(number, picture, stain.fall_back(fit, pooled)))

    def _read(self, number: int) -> Picture | Made:
        """An image, or why it is none. What it was at is known of a worker that dies at it."""
        if number in self.deadly:
            return Made(number, problem=self.deadly[number])
        if not hasattr(self.own, "thread"):
            self.own.thread = next(self.threads)
        self.progress.at(self.own.thread, number)
        try:
            return self.images.read(self.part.items[number])
        except FileNotFoundError:
            return Made(number, problem="no such file, though the labels name it")
        except OSError as error:
            return Made(number, problem=f"cannot be read: {limits.reason(error)}", unread=True)
        except ValueError as error:
            return Made(number, problem=str(error))
        finally:
            self.progress.at(self.own.thread, None)

    def _finish(
        self, number: int, picture: Picture, fit: stain.StainFit | None
    ) -> tuple[bytes, dict[str, Any]]:
        """Normalise (with ``bake``) and encode, unless the file's own bytes can stay."""
        settings, tiles, data = self.params.stain, picture.pixels[None], picture.jpeg
        row = self._row(number, picture, fit)
        if settings.mode == "bake" and fit is not None and row["he"] is not None:
            matrix = stain.matrix(fit, settings.target or stain.Target.default())
            tiles, data = self.engine.apply(tiles, matrix, settings.io), None
        if data is None:
            (data,) = self.engine.encode(tiles, self.params.quality, self.params.subsampling)
        return data, row

    def _row(self, number: int, picture: Picture, fit: stain.StainFit | None) -> dict[str, Any]:
        item, pixels, mpp = self.part.items[number], picture.pixels, self.params.mpp
        side = len(pixels)
        _, figures = self.engine.cut(pixels, np.zeros((1, 2), np.int32), side, side)
        return {
            "x": number,
            "y": 0,
            "side": side,
            "stored": side,
            "mpp": None if mpp is None else mpp * picture.scale,
            **dict(zip(FIGURES, figures[0].tolist(), strict=True)),
            **stain_columns(fit, 0),
            "label": item.label,
            "group": item.group,
            "source": item.source,
        }
