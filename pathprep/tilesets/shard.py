"""One shard of a tile set: the unit of work, of retry and of parallelism, as pipeline.py is for a slide."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from pathprep import stain
from pathprep.dataset.schema import STATUSES
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import UnreadableSlide
from pathprep.kernels.tiling_cpu import cut
from pathprep.params.tile_set import TileParams
from pathprep.sharding.pipeline import Progress
from pathprep.slides.readers.base import Pixels
from pathprep.tiles import jpeg
from pathprep.tiles.qc import FIGURES
from pathprep.tilesets import images
from pathprep.tilesets.images import Picture
from pathprep.tilesets.items import Item

BATCH = 128  # images in memory at a time

Read = Callable[[Item], Picture]


@dataclass(frozen=True)
class Part:
    """What one shard is made of.

    Attributes:
        name: of the shard. path: the set's folder. set, split: whose part it is. items: in their order.
    """

    name: str
    path: Path
    set: str
    split: str
    items: list[Item]

    def inputs(self) -> dict[str, Any]:
        """What its tiles depend on besides the parameters: names, labels, and the files' size and time.

        The time, because uncompressed images of one side have one size, whatever is in them.
        """
        states: dict[str, Any] = {}
        digest = hashlib.sha256()
        for item in self.items:
            if item.file not in states:
                states[item.file] = _state(self.path / item.file)
            values = [item.source, item.label, item.group, states[item.file]]
            digest.update(json.dumps(values).encode() + b"\n")
        return {"images": len(self.items), "sha256": digest.hexdigest()}


def _state(path: Path) -> list[int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


@dataclass(frozen=True)
class ImportTask:
    """A shard to make. ``threads`` change the speed, never the bytes; ``rebuild`` replaces what stands."""

    root: Path
    source: Part
    params: TileParams
    build_id: str
    threads: int = 1
    rebuild: bool = False
    dry: ClassVar[bool] = False

    def run(self, progress: Progress) -> dict[str, Any]:
        """See ``process``."""
        return process(self, progress)


class Made(NamedTuple):
    """What became of one image: a tile with its row, or only a fit, or the reason why it is neither."""

    tile: tuple[bytes, dict[str, Any]] | None = None
    fit: stain.StainFit | None = None
    problem: str = ""


def process(task: ImportTask, progress: Progress | None = None) -> dict[str, Any]:
    """Make one shard and commit it; returns the marker.

    An image that cannot be used costs itself, not the shard; the marker's ``damaged`` names it and says why.

    Raises:
        UnreadableSlide: the set's folder is gone.
        OSError: the dataset folder cannot be written.
    """
    progress, part = progress or Progress(), task.source
    start = time.perf_counter()
    progress.stage(0)
    if not part.path.is_dir():
        raise UnreadableSlide(f"{part.path}: the set's folder is gone; mount it and run the command again")
    inputs = part.inputs()
    progress.planned(len(part.items))
    progress.stage(2)
    with ExitStack() as stack:
        writer = stack.enter_context(ShardWriter(task.root, part.name, task.rebuild))
        worker = _Worker(part, task.params, _reader(part, stack))
        pool = stack.enter_context(ThreadPoolExecutor(task.threads))
        found = _write(writer, worker, pool, progress)
        progress.stage(3)
        kept = [item for number, item in enumerate(part.items) if number not in found.damaged]
        marker = {
            "kind": "tiles",
            "source": {"path": str(part.path), "size": _size(part)},
            "set": part.set,
            "split": part.split,
            "inputs": inputs,
            "build_id": task.build_id,
            "mpp": task.params.mpp,
            "mpp_source": "not known" if task.params.mpp is None else "--mpp",
            "counts": {"kept": len(kept), "damaged": len(found.damaged)},
            "damaged": [
                {"image": part.items[number].source, "error": problem}
                for number, problem in sorted(found.damaged.items())
            ],
            "labels": dict(sorted(Counter(item.label or "" for item in kept).items())),
            "groups": len({item.group for item in kept} - {None}),
            "stain": {status: found.statuses[status] for status in STATUSES if found.statuses[status]},
            "stain_fit": found.pooled,
            "seconds": {"total": time.perf_counter() - start},
        }
        return writer.commit(marker, {})


def _size(part: Part) -> int:
    states = (_state(part.path / file) for file in dict.fromkeys(item.file for item in part.items))
    return sum(state[0] for state in states if state)


def _reader(part: Part, stack: ExitStack) -> Read:
    if all(item.row is None for item in part.items):
        return lambda item: images.decode((part.path / item.file).read_bytes())
    from pathprep.tilesets.hdf5 import Rows

    rows = stack.enter_context(Rows(part.path))
    return lambda item: Picture(rows.read(item), None)


@dataclass
class _Found:
    """Image number -> why it is no tile; tiles per stain status; the shard's pooled fit."""

    damaged: dict[int, str]
    statuses: Counter[str]
    pooled: dict[str, Any] | None


def _write(writer: ShardWriter, worker: "_Worker", pool: ThreadPoolExecutor, progress: Progress) -> _Found:
    """Write all tiles; those without a fit of their own are read again when the pooled fits are known."""
    found = _Found({}, Counter(), None)
    fits: dict[int, stain.StainFit] = {}

    def each(numbers: list[int], work: Callable[[int], Made]) -> Iterator[tuple[int, Made]]:
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            yield from zip(some, pool.map(work, some), strict=True)

    def write(numbers: list[int], work: Callable[[int], Made]) -> None:
        for number, made in each(numbers, work):
            if made.problem:
                found.damaged[number] = made.problem
            if made.fit is not None:
                fits[number] = made.fit
            if made.tile is not None:
                data, row = made.tile
                writer.add(data, row)
                found.statuses[row["stain_status"]] += 1
                progress.done(Counter([row["stain_status"]]))

    items = worker.part.items
    write(list(range(len(items))), worker.first_pass)
    if fits:
        whole = _pool(list(fits.values()))
        if whole.status[0] == stain.Status.FITTED:
            found.pooled = {"he": whole.he[0].ravel().tolist(), "max_c": whole.max_c[0].tolist()}
        groups: dict[str, list[stain.StainFit]] = {}
        for number, fit in fits.items():
            groups.setdefault(items[number].group or "", []).append(fit)
        pooled = {group: _pool(own) for group, own in groups.items() if group}
        usual = {group: own for group, own in pooled.items() if own.status[0] == stain.Status.FITTED}
        late = [number for number, fit in fits.items() if fit.status[0] != stain.Status.FITTED]
        write(late, lambda number: worker.second_pass(number, usual.get(items[number].group or "", whole)))
    return found


def _pool(fits: list[stain.StainFit]) -> stain.StainFit:
    joined = [np.concatenate([getattr(fit, f.name) for fit in fits]) for f in fields(stain.StainFit)]
    return stain.pool(stain.StainFit(*joined))


@dataclass(frozen=True)
class _Worker:
    """The work on one image, by its number; called from several threads."""

    part: Part
    params: TileParams
    read: Read

    def first_pass(self, number: int) -> Made:
        """Read, fit; encode what has a fit of its own, or needs none."""
        try:
            picture = self.read(self.part.items[number])
        except FileNotFoundError:
            return Made(problem="no such file, though the labels name it")
        except (OSError, ValueError) as error:
            return Made(problem=str(getattr(error, "strerror", None) or error))
        if self.params.stain.mode == "none":
            return Made(self._finish(number, picture, None))
        fit = self._fit(picture.pixels)
        if fit.status[0] != stain.Status.FITTED:
            return Made(fit=fit)
        return Made(self._finish(number, picture, fit), fit)

    def second_pass(self, number: int, pooled: stain.StainFit) -> Made:
        """With the pooled fit; left as it is if that is none either."""
        try:
            picture = self.read(self.part.items[number])
        except (OSError, ValueError) as error:  # it could be read a moment ago
            return Made(problem=f"changed while it was read ({error})")
        return Made(self._finish(number, picture, stain.fall_back(self._fit(picture.pixels), pooled)))

    def _fit(self, pixels: Pixels) -> stain.StainFit:
        settings = self.params.stain
        return stain.fit(
            pixels[None],
            keep=settings.keep,
            alpha=settings.alpha,
            beta=settings.beta,
            io=settings.io,
            threads=1,
        )

    def _finish(
        self, number: int, picture: Picture, fit: stain.StainFit | None
    ) -> tuple[bytes, dict[str, Any]]:
        settings, pixels = self.params.stain, picture.pixels
        row = self._row(number, pixels, fit)
        data = picture.jpeg
        if settings.mode == "bake" and fit is not None and row["he"] is not None:
            matrix = stain.matrix(fit, settings.target or stain.Target.default())
            pixels, data = stain.apply(pixels[None], matrix, io=settings.io, threads=1)[0], None
        if data is None:
            data = jpeg.encode(np.ascontiguousarray(pixels), self.params.quality, self.params.subsampling)
        return data, row

    def _row(self, number: int, pixels: Pixels, fit: stain.StainFit | None) -> dict[str, Any]:
        item, side = self.part.items[number], len(pixels)
        _, figures = cut(pixels, np.zeros((1, 2), np.int32), side, side)
        values = {
            "x": number,
            "y": 0,
            "side": side,
            "stored": side,
            "mpp": self.params.mpp,
            **dict(zip(FIGURES, figures[0].tolist(), strict=True)),
            "stain_status": "none",
            "he": None,
            "label": item.label,
            "group": item.group,
            "source": item.source,
        }
        if fit is not None:
            status = stain.Status(fit.status[0])
            values["stain_status"] = status.name.lower()
            values["tissue_pixels"] = int(fit.tissue_pixels[0])
            if status != stain.Status.UNFITTED:
                values |= {"he": fit.he[0].ravel().tolist(), "max_c": fit.max_c[0].tolist()}
        return values
