"""One pass of a mix: tiles of many slides, read in the order in which they lie, into several new tars."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pathprep.errors import DatasetError
from pathprep.mixed import format as mixed
from pathprep.mixed.format import Bytes, Skeleton
from pathprep.mixed.inputs import FIT_COLUMNS, Corpus
from pathprep.permutation import Ints
from pathprep.storage import atomic
from pathprep.storage.base import Storage
from pathprep.storage.seals import write_sealed
from pathprep.words import command

# Tiles of one slide that a thread reads at a time
UNIT = 2048
# Bytes between two tiles that are read and thrown away rather than skipped: about what a disk reads ahead
GAP = 64 << 10
# Of one system call; a tile takes two buffers (the other for the gap), and the system allows 1024
TILES_A_READ = 500


class Job(NamedTuple):
    """One shard to make: its number, the tiles in their order, and the bytes of its tar."""

    number: int
    tiles: Ints
    size: int


class Unit(NamedTuple):
    """What a thread reads at a time: tiles of one slide, places ``first`` to ``last`` of the pass."""

    source: int
    slide: int
    first: int
    last: int


class Maker:
    """Makes shards, some at a time.

    Args:
        corpus: what is mixed.
        root: the folder for the mix.
        mix_id: of the plan, noted in the markers.
        pool: threads.
    """

    def __init__(self, corpus: Corpus, root: Path, mix_id: str, pool: ThreadPoolExecutor) -> None:
        self.corpus, self.root, self.mix_id, self.pool = corpus, root, mix_id, pool
        self._arena: Bytes = np.empty(0, np.uint8)  # the tars of a pass, one after the other

    def make(self, jobs: list[Job]) -> Iterator[int | dict[str, Any]]:
        """Make the shards of one pass.

        Yields:
            While it reads: how many tiles more. Then the marker of each shard that is written.

        Raises:
            DatasetError: a tile is damaged or gone.
            OSError: the folder cannot be written.
        """
        wanted = np.concatenate([job.tiles for job in jobs])
        order = np.argsort(wanted)
        tiles = wanted[order]  # as they lie in the datasets
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        units = list(_units(self.corpus, tiles))
        rows = self._rows(tiles, units)
        bases = np.cumsum([0, *(job.size for job in jobs)])
        cuts = np.cumsum([0, *(len(job.tiles) for job in jobs)])
        if len(self._arena) < bases[-1]:
            self._arena = np.empty(0, np.uint8)  # frees the old one first
            self._arena = np.empty(bases[-1], np.uint8)
        targets = np.empty(len(tiles), np.int64)

        def lay_out(number: int) -> tuple[pa.Table, Skeleton]:
            mine = place[cuts[number] : cuts[number + 1]]
            table = _encoded(rows.take(mine), mixed.schema(self.corpus.components))
            skeleton = Skeleton(table, self.corpus.components)
            skeleton.write(self._arena[bases[number] : bases[number + 1]])
            offsets = skeleton.offsets[:, 0]
            targets[mine] = bases[number] + offsets
            column = table.schema.get_field_index("offset")
            return table.set_column(column, table.schema.field(column), pa.array(offsets)), skeleton

        def write(number: int) -> dict[str, Any]:
            tar = self._arena[bases[number] : bases[number + 1]]
            return self._write(jobs[number].number, tar, *laid_out[number])

        laid_out = list(self.pool.map(lay_out, range(len(jobs))))
        # for threads: one copy of each column as plain numbers
        lengths, sums = (rows[name].to_numpy() for name in ("length", "crc32"))
        offsets = self.corpus.column("offset", tiles)

        def read(unit: Unit) -> int:
            part = slice(unit.first, unit.last)
            source = self.corpus.sources[unit.source]
            storage, tar = source.dataset.storage, f"shards/{source.index.slides[unit.slide]}.tar"
            views = [
                self._arena.data[at : at + length]
                for at, length in zip(targets[part].tolist(), lengths[part].tolist(), strict=True)
            ]
            bad = read_tiles(storage, tar, offsets[part].tolist(), views, sums[part].tolist())
            if bad is not None:
                tile = rows.slice(unit.first + bad, 1).select(["x", "y"]).to_pylist()[0]
                raise DatasetError(
                    f"{storage.root / tar}: tile {tile['x']}_{tile['y']} is damaged (CRC-32 differs from "
                    f"the index); run {command('pathprep verify', storage)}"
                )
            return unit.last - unit.first

        yield from self.pool.map(read, units)
        yield from self.pool.map(write, range(len(jobs)))

    def _rows(self, tiles: Ints, units: list[Unit]) -> pa.Table:
        """Index rows of sorted tiles, texts as plain strings, the offset not yet known."""
        corpus = self.corpus
        counts = [unit.last - unit.first for unit in units]
        names = [corpus.sources[unit.source].index.slides[unit.slide] for unit in units]
        keys = [corpus.keys[unit.source][unit.slide] for unit in units]
        x, y = corpus.column("x", tiles), corpus.column("y", tiles)
        spread = np.repeat(np.arange(len(units)), counts).tolist()
        columns: dict[str, Any] = {
            "key": [f"{keys[u]}__{a}_{b}" for u, a, b in zip(spread, x.tolist(), y.tolist(), strict=True)],
            "source": pa.array(np.repeat([unit.source for unit in units], counts), pa.int16()),
            "slide": pa.array(names).take(pa.array(spread)),
            "x": x,
            "y": y,
            "offset": np.zeros(len(tiles), np.int64),
            "length": corpus.column("length", tiles),
            "crc32": corpus.column("crc32", tiles),
        }
        if "fit" in corpus.components:

            def fits(unit: Unit) -> pa.Table:
                source = corpus.sources[unit.source]
                first = corpus.bounds[unit.source] + source.index.starts[unit.slide]
                table = source.dataset.table(source.index.slides[unit.slide], list(FIT_COLUMNS))
                table = table.set_column(
                    table.schema.get_field_index("stain_status"),
                    "stain_status",
                    table["stain_status"].cast(pa.string()),
                )
                return table.take(tiles[unit.first : unit.last] - first)

            found = pa.concat_tables(self.pool.map(fits, units)).combine_chunks()
            columns |= {name: found[name] for name in FIT_COLUMNS}
        if "txt" in corpus.components:
            codes = corpus.column("label", tiles)
            columns["label"] = pa.array(corpus.labels).take(pa.array(codes, mask=codes < 0))
        return pa.table(columns)

    def _write(self, number: int, tar: Bytes, rows: pa.Table, skeleton: Skeleton) -> dict[str, Any]:
        shard = mixed.name(number)
        data: tuple[bytes | memoryview, ...] = (tar.data, skeleton.dali_index(), mixed.parquet(rows))
        recorded = {}
        for name, content in zip(mixed.files(shard), data, strict=True):
            atomic.write_bytes(self.root / name, content)
            recorded[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        marker = {"shard": shard, "number": number, "tiles": len(rows), "files": recorded}
        write_sealed(self.root / "unfinished" / f"{shard}.json", {"mix_id": self.mix_id, **marker})
        return marker


def _units(corpus: Corpus, tiles: Ints) -> Iterator[Unit]:
    """Sorted tiles by slide, at most UNIT at a time."""
    for number, source in enumerate(corpus.sources):
        cuts = np.searchsorted(tiles, corpus.bounds[number] + source.index.starts)
        for slide in np.flatnonzero(np.diff(cuts)).tolist():
            first, last = cuts[slide : slide + 2].tolist()
            for start in range(first, last, UNIT):
                yield Unit(number, slide, start, min(start + UNIT, last))


def _encoded(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Texts as dictionaries in the order of their appearance, so that no other shard shapes this one."""
    return pa.table([rows[field.name].combine_chunks().cast(field.type) for field in schema], schema=schema)


def read_tiles(
    storage: Storage, tar: str, offsets: list[int], views: list[memoryview], sums: list[int]
) -> int | None:
    """Read members of a tar to their places, those that lie close together by one call.

    Args:
        storage, tar: the file.
        offsets: of each member's first byte, rising.
        views: where to; as long as the member.
        sums: CRC-32 of each.

    Returns:
        The first that is cut off or whose CRC-32 differs; None if all are well.

    Raises:
        DatasetError: there is no such file.
    """
    try:
        with _reader(storage, tar) as read:
            start = 0
            while start < len(views):
                stop, end = start + 1, offsets[start] + len(views[start])
                while stop < min(len(views), start + TILES_A_READ) and offsets[stop] - end <= GAP:
                    end = offsets[stop] + len(views[stop])
                    stop += 1
                read(offsets[start:stop], views[start:stop])
                for number in range(start, stop):
                    if zlib.crc32(views[number]) != sums[number]:
                        return number
                start = stop
    except OSError as error:
        raise DatasetError(
            f"{storage.root / tar}: {error.strerror}; run {command('pathprep verify', storage)}"
        ) from None
    return None


@contextmanager
def _reader(storage: Storage, tar: str) -> Iterator[Callable[[list[int], list[memoryview]], None]]:
    """What reads members that lie one after the other; zeros stand for what is missing at the end."""
    if not isinstance(storage.root, Path):
        yield partial(_fetch, storage, tar)
        return
    file = os.open(storage.root / tar, os.O_RDONLY)
    try:
        yield partial(_scatter, file, memoryview(bytearray(GAP)))
    finally:
        os.close(file)


def _fetch(storage: Storage, tar: str, offsets: list[int], views: list[memoryview]) -> None:
    first, end = offsets[0], offsets[-1] + len(views[-1])
    data = storage.read_at(tar, first, end - first).ljust(end - first, b"\0")
    for offset, view in zip(offsets, views, strict=True):
        view[:] = data[offset - first : offset - first + len(view)]


def _scatter(file: int, trash: memoryview, offsets: list[int], views: list[memoryview]) -> None:
    buffers, end = [views[0]], offsets[0] + len(views[0])
    for offset, view in zip(offsets[1:], views[1:], strict=True):
        buffers += [trash[: offset - end], view]
        end = offset + len(view)
    if os.preadv(file, buffers, offsets[0]) < end - offsets[0]:
        for offset, view in zip(offsets, views, strict=True):
            _fill(file, view, offset)


def _fill(file: int, view: memoryview, offset: int) -> None:
    """A read may end early; at the end of the file, zeros stand for what is missing."""
    while len(view):
        count = os.preadv(file, [view], offset)
        if not count:
            view[:] = bytes(len(view))
            return
        view, offset = view[count:], offset + count
