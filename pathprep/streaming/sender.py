"""A slide's tiles, out of the process that reads it: through shared memory, without a copy on disk.

The process connects to the run's socket, says which slide's turn it is, and is told where that is: or that it
is not wanted any more, or what is wrong. Then it hands over the memory that it writes tiles to, of SLOTS
slots, and from then on it sends

    ("tiles", slot, count, columns)    so many tiles are in a slot, and what the index would record of them
    ("end", count)                     that were all

and is sent numbers of slots that may be written to again. So a slide takes as much memory as its slots and
the blocks in work, whatever its size, and waits for whoever takes its tiles.
"""

import mmap
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pathprep.dataset.marker import Marker
from pathprep.dataset.schema import SHARE, STATUSES
from pathprep.errors import PathprepError
from pathprep.launchers.base import Progress
from pathprep.params.shard import ShardParams
from pathprep.sharding.blocks import Pack, as_pixels
from pathprep.sharding.pipeline import process
from pathprep.slides.find import SlideSource
from pathprep.tiles.qc import FIGURES

NICE = 10
SLOTS, SLOT_BYTES = 4, 8 << 20  # 42 tiles of 256 pixels a slot; a larger tile makes larger slots
# What goes with each tile: columns of the index, see dataset.schema
INTEGERS = ("x", "y", "column", "row", "region", "side", "stored")
FLOATS = ("mpp", "tissue", *FIGURES)

Pixels = npt.NDArray[np.uint8]
Columns = Mapping[str, npt.NDArray[Any]]


class RunIsOver(Exception):
    """Nobody takes the tiles any more."""


@dataclass(frozen=True)
class StreamTask:
    """A slide whose tiles a run wants; see launchers.base.Task.

    Attributes:
        root: the folder that the run writes to; errors name it. number: of the slide in the run.
        address: the run's socket. build_id: what records call the parameters.
        yields: whether the process leaves a core to others that want it, such as a model's threads.
    """

    root: Path
    source: SlideSource
    params: ShardParams
    build_id: str
    number: int
    address: str
    threads: int = 1
    yields: bool = False

    @property
    def path(self) -> Path:
        """See launchers.base.Task."""
        return self.source.path

    def work(self, progress: Progress) -> tuple[Marker | None, bool]:
        """See launchers.base.Task; None for a slide that is not wanted any more.

        Raises:
            RunIsOver: nobody takes its tiles.
            PathprepError: what the run says is wrong with the slide.
        """
        if self.yields:
            os.nice(NICE)
        line = socket.socket(socket.AF_UNIX)
        line.connect(self.address)
        with Connection(line.detach()) as connection:
            connection.send((self.number, os.getpid()))
            source = connection.recv()
            if source is None:
                return None, False
            if isinstance(source, PathprepError):
                raise source
            work = _Work(source, self.params, self.build_id, self.threads, connection)
            return process(work, progress), True


@dataclass(frozen=True)
class _Work:
    """See sharding.work.SlideWork."""

    source: SlideSource
    params: ShardParams
    build_id: str
    threads: int
    connection: Connection
    pack: Pack = as_pixels
    previews: bool = False

    def sink(self) -> "Sender":
        """See SlideWork."""
        return Sender(self.connection, self.source.name)


class Sender:
    """Takes the tiles of one slide and sends them on; see sharding.work.Sink."""

    def __init__(self, connection: Connection, slide: str) -> None:
        self._connection, self._slide = connection, slide
        self.dropped: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._free = list(range(SLOTS))
        self._memory: npt.NDArray[np.uint8] | None = None  # (SLOTS, tiles, side, side, 3)
        self._slot: int | None = None
        self._rows: list[Mapping[str, Any]] = []
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory = None

    def add(self, tile: Pixels, row: Mapping[str, Any], /) -> None:
        """See Sink. Waits until there is room.

        Raises:
            RunIsOver: nobody takes it.
        """
        if self._memory is None:
            self._memory = self._shared(tile)
        if self._slot is None:
            self._slot = self._free_slot()
        slot = self._memory[self._slot]
        slot[len(self._rows)] = tile
        self._rows.append(row)
        self._statuses[row["stain_status"]] += 1
        if len(self._rows) == len(slot):
            self._hand_over()

    def drop(self, row: Mapping[str, Any], /) -> None:
        """See Sink."""
        self.dropped[row["reason"]] += 1

    def stain(self) -> dict[str, int]:
        """See Sink."""
        return {status: self._statuses[status] for status in STATUSES if self._statuses[status]}

    def commit(self, marker: Marker, previews: Mapping[str, bytes], /) -> Marker:
        """See Sink."""
        if self._rows:
            self._hand_over()
        self._send(("end", self._sent))
        return replace(marker, slide=self._slide, tiles=self._sent)

    def _shared(self, tile: Pixels) -> npt.NDArray[np.uint8]:
        """Memory for tiles like this one, that the run sees too."""
        shape = (SLOTS, max(1, SLOT_BYTES // tile.nbytes), *tile.shape)
        handle = os.memfd_create(f"tiles of {self._slide}"[:200])
        try:
            size = int(np.prod(shape))
            os.ftruncate(handle, size)
            memory = mmap.mmap(handle, size)
            self._send(("memory", shape))
            reduction.send_handle(self._connection, handle, 0)
        finally:
            os.close(handle)
        return np.frombuffer(memory, np.uint8).reshape(shape)

    def _free_slot(self) -> int:
        while not self._free or self._connection.poll():
            try:
                self._free.append(self._connection.recv())
            except (EOFError, OSError):
                raise RunIsOver from None
        return self._free.pop()

    def _hand_over(self) -> None:
        self._send(("tiles", self._slot, len(self._rows), columns(self._rows)))
        self._sent += len(self._rows)
        self._slot, self._rows = None, []

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise RunIsOver from None


def columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Rows of the index as columns: INTEGERS, FLOATS, shares of a tissue model's classes, and
    ``stain_status``, a number into STATUSES.
    """
    found: dict[str, npt.NDArray[Any]] = {
        name: np.array([row[name] for row in rows], np.int32) for name in INTEGERS
    }
    floats = [*FLOATS, *(name for name in rows[0] if name.startswith(SHARE))]
    found |= {name: np.array([row[name] for row in rows], np.float32) for name in floats}
    found["stain_status"] = np.array([STATUSES.index(row["stain_status"]) for row in rows], np.int8)
    return found
