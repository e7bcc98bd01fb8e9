"""Tiles straight from slides: read in processes of their own, as `pathprep shard` reads them, for a consumer
that has no use for shards.

    with TileStream(sources, params, out, build_id=..., ask=...) as stream:
        for event in stream:
            ...

What the consumer sees of a slide is a Begun, its Tiles in the order in which a shard would hold them, and an
Ended; those of several slides come mixed. A slide whose process dies is tried once more from its start: then
there is another Begun, and what came before it is void. The processes are launchers.local's; a slide costs
itself only.
"""

import logging
import os
import queue
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection as connections
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pathprep.dataset.marker import SlideMarker
from pathprep.errors import PathprepError
from pathprep.launchers import base, local, server
from pathprep.launchers.base import Board, Failure, Outcome
from pathprep.launchers.local import Local
from pathprep.params.shard import ShardParams
from pathprep.sharding.drive import drive
from pathprep.slides.find import SlideSource
from pathprep.streaming.line import Line, mapped
from pathprep.streaming.sender import Columns, StreamTask

log = logging.getLogger(__name__)
OVER = "over"  # why a run of the launcher is told to stop


@dataclass(frozen=True)
class Begun:
    """A slide's first tile is about to come; tiles of it that came before are void."""

    slide: int


@dataclass(frozen=True)
class Tiles:
    """Some tiles of a slide, in shared memory: take them, and ``release`` it.

    Attributes:
        slide: its number. pixels: (T, stored, stored, 3) uint8, read only. columns: (T,) of each of the
            index's columns; see sender.columns.
        release: gives the memory back; to be called once, from any thread.
    """

    slide: int
    pixels: npt.NDArray[np.uint8]
    columns: Columns
    release: Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """What became of a slide: exactly one of ``marker`` and ``failure``, or neither if it was not wanted.

    All of its tiles came before, if it has a marker.
    """

    slide: int
    marker: SlideMarker | None = None
    failure: Failure | None = None


Event = Begun | Tiles | Ended
# What a process is told to read
Reply = Callable[[SlideSource | PathprepError | None], None]


@dataclass
class Account:
    """See sharding.drive.Account; ``interrupted`` and ``stopped`` are the launcher's."""

    seconds: float = 0.0
    interrupted: bool = False
    stopped: str = ""


class TileStream:
    """The tiles of slides, by events; see the module.

    Args:
        sources: the slides, named. params: what shapes their tiles, at one MPP.
        root: the folder that the consumer writes to, for messages. build_id: what markers call ``params``.
        ask: called when a slide's turn comes, from another thread, with its number and a function; this is
            to be called, then or later, with the slide; with None if it is not wanted any more, since another
            run has done it meanwhile; or with what is wrong. Default: with the slide, at once.
        done: called when a process has ended with a slide, well or not.
        workers: slides at a time; None: one per core, and two at least, so that the next slide's tissue is
            found while this one's tiles are taken.
        yields: whether the processes leave cores to the consumer where it wants them.
        timeout: seconds in which a process may send nothing though it has room, before it is ended: one that
            waits for the consumer does not hang.
        cores: that the processes may use together; None: all that this one may. Consumers side by side share
            a machine's.

    Attributes:
        board: counters of stages, tiles planned and done; see launchers.base.Board.
    """

    def __init__(
        self,
        sources: Sequence[SlideSource],
        params: ShardParams,
        root: Path,
        *,
        build_id: str = "",
        ask: Callable[[int, Reply], None] | None = None,
        done: Callable[[int], None] = lambda slide: None,
        workers: int | None = None,
        yields: bool = False,
        timeout: float | None = None,
        cores: int | None = None,
    ) -> None:
        share = cores or local.cores()
        chosen = workers or max(2, share)
        self._launcher = Local(chosen)
        self.workers = min(chosen, max(1, len(sources)))
        self._ask, self._done, self._timeout = ask or self._as_it_is, done, timeout
        self._folder = tempfile.TemporaryDirectory(prefix="tiles-")
        self._address = str(Path(self._folder.name) / "s")
        threads = max(1, share // self.workers)
        place = root.absolute()
        self.tasks = [
            StreamTask(place, source, params, build_id, number, self._address, threads, yields)
            for number, source in enumerate(sources)
        ]
        self.board = Board(len(self.tasks))
        self.account = Account()
        self._events: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome[Any]] = queue.SimpleQueue()
        self._hung: set[int] = set()  # slides whose process was ended for sending nothing
        self._sent: dict[int, int] = {}  # slide -> tiles of its last attempt, when all have come
        self._waiting: dict[int, Ended] = {}  # outcomes that came before the slide's last tiles
        self._stop = threading.Event()
        self._lines: list[Line] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for work, name in ((self._listen, "tiles"), (self._launch, "slides"))
        ]

    def __enter__(self) -> Self:
        server.check_sockets()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self._address)
        self._socket.listen(64)
        self._wake, self._woken = os.pipe()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        os.write(self._woken, b"!")
        for thread in self._threads:
            thread.join()
        for line in self._lines:
            line.close()
        self._socket.close()
        os.close(self._wake)
        os.close(self._woken)
        self._folder.cleanup()

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None when there will be none.

        Raises:
            queue.Empty: none came within ``timeout`` seconds.
            OSError, PathprepError: the run cannot go on: see launchers.base.Launcher.
        """
        event = self._events.get(timeout=timeout)
        if isinstance(event, BaseException):
            raise event
        return event

    def __iter__(self) -> Iterator[Event]:
        while (event := self.get()) is not None:
            yield event

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # the consumer's to raise
            self._events.put(error)

    def _launch(self) -> None:
        """Have the launcher run every task."""
        drive(
            self.tasks,
            self._launcher,
            self.board,
            None,
            self.account,
            self._ended,
            full=lambda: OVER if self._stop.is_set() else "",
        )
        # the end is told behind the last slide's tiles, which come by the other thread
        os.write(self._woken, b"e")

    def _ended(self, outcome: Outcome[Any]) -> None:
        self._outcomes.put(outcome)
        os.write(self._woken, b"o")

    def _listen(self) -> None:
        """Take what the processes send, and what became of them, until all is there."""
        last = False
        while not self._stop.is_set() and not (last and not self._waiting):
            by_place: dict[Any, Line] = {line.connection: line for line in self._lines}
            for ready in connections.wait([self._socket, self._wake, *by_place], 1.0):
                if ready is self._socket:
                    accepted, _ = self._socket.accept()
                    self._lines.append(Line(Connection(accepted.detach())))
                elif ready == self._wake:
                    last = b"e" in os.read(self._wake, 1 << 12) or last
                elif by_place[ready] in self._lines:
                    self._hear(by_place[ready])
            self._end_hanging()
            while not self._outcomes.empty():
                self._take(self._outcomes.get())
        self._events.put(None)

    def _hear(self, line: Line) -> None:
        """One message of a process."""
        try:
            said = line.connection.recv()
            if line.slide < 0:
                line.slide, line.process = said
                self._begin(line)
            elif said[0] == "memory":
                line.memory = mapped(reduction.recv_handle(line.connection), said[1])
            elif said[0] == "tiles":
                _, slot, count, columns = said
                pixels = line.take(slot, count)
                self._events.put(Tiles(line.slide, pixels, columns, partial(line.give_back, slot)))
            else:
                self._sent[line.slide] = said[1]
                if line.slide in self._waiting:
                    self._events.put(self._waiting.pop(line.slide))
        except (EOFError, OSError):  # it is gone: with its last tile sent, or dead
            self._lines.remove(line)
            line.close()
            if line.slide >= 0:
                self._done(line.slide)

    def _end_hanging(self) -> None:
        """End processes that hang in a slide; the launcher then tries it once more, or gives it up."""
        for line in self._lines if self._timeout is not None else ():
            if line.slide >= 0 and line.hangs(self._timeout or 0.0):
                self._hung.add(line.slide)
                line.since = time.monotonic()
                with suppress(ProcessLookupError):
                    os.kill(line.process, signal.SIGKILL)

    def _begin(self, line: Line) -> None:
        for old in [each for each in self._lines if each.slide == line.slide and each is not line]:
            self._lines.remove(old)  # of a process that died; what it had sent is void
            old.close()
            self._done(line.slide)
        self._ask(line.slide, partial(self._reply, line))

    def _as_it_is(self, slide: int, reply: Reply) -> None:
        reply(self.tasks[slide].source)

    def _reply(self, line: Line, answer: SlideSource | PathprepError | None) -> None:
        """Tell a process what to read."""
        if isinstance(answer, SlideSource):
            self._sent.pop(line.slide, None)
            self._events.put(Begun(line.slide))
        with line.lock:
            line.told, line.since = True, time.monotonic()
        line.send(answer)

    def _take(self, outcome: Outcome[Any]) -> None:
        failure = outcome.failure
        if failure is not None and outcome.number in self._hung and failure.kind == "crash":
            task = self.tasks[outcome.number]
            failure = base.overtime(self._timeout or 0.0, failure.stage, failure.attempts, task)
        ended = Ended(outcome.number, outcome.result, failure)
        if outcome.result is not None and outcome.number not in self._sent:
            self._waiting[outcome.number] = ended
        else:
            self._events.put(ended)
