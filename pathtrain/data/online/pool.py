"""Processes that read slides for a run, and survive what slides do to them.

A slide always goes to the same reader, which holds it open; a thread for each reader hands it some jobs at a
time and waits for their tiles in order. So it is known which slide a process died or hung in. Another process
takes its place, and every further job on that slide fails at once.
"""

import queue
import threading
import zlib
from collections.abc import Mapping
from concurrent.futures import Future
from ctypes import c_uint8
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep import interpreter
from pathprep.launchers import server
from pathtrain.data.online.slide_reader import Drawn, Rules
from pathtrain.data.online.worker import Job, serve

SLOTS = 4  # jobs that a reader is handed at a time
GRACE_S = 60.0  # that a new process may take before its first tile, beside the slide's own time


@dataclass(frozen=True)
class Failed:
    """Why a slide gives no tile."""

    reason: str


Answer = Drawn | Failed


class ReaderPool:
    """R processes.

    Args:
        root: of the survey. contents: of its slides. rules: of the run.
        readers: R.
        timeout: seconds for one tile.
    """

    def __init__(
        self, root: Path, contents: Mapping[str, str], rules: Rules, readers: int, timeout: float
    ) -> None:
        self.bad: dict[str, str] = {}  # slide -> why, of all readers
        self._readers = [_Reader(self, root, dict(contents), rules, timeout) for _ in range(readers)]

    def submit(self, job: Job, out: npt.NDArray[np.uint8]) -> Future[Answer]:
        """Have a tile read into ``out`` (tile, tile, 3)."""
        reader = self._readers[zlib.crc32(job.slide.encode()) % len(self._readers)]
        return reader.submit(job, out)

    def close(self) -> None:
        """End the processes; jobs that are left are cancelled."""
        for reader in self._readers:
            reader.stop()
        for reader in self._readers:
            reader.join()


class _Reader:
    """A process and its thread."""

    def __init__(
        self, pool: ReaderPool, root: Path, contents: dict[str, str], rules: Rules, timeout: float
    ) -> None:
        self._pool, self._timeout = pool, timeout
        self._context: Any = server.context()
        self._memory: Any = RawArray(c_uint8, SLOTS * rules.tile**2 * 3)
        self._tiles = np.frombuffer(memoryview(self._memory), np.uint8).reshape(
            SLOTS, rules.tile, rules.tile, 3
        )
        self._given = (SLOTS, root, contents, rules)
        self._jobs: queue.SimpleQueue[tuple[Job, Any, Future[Answer]] | None] = queue.SimpleQueue()
        self._process: Any = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="slides", daemon=True)
        self._thread.start()

    def submit(self, job: Job, out: npt.NDArray[np.uint8]) -> Future[Answer]:
        future: Future[Answer] = Future()
        self._jobs.put((job, out, future))
        return future

    def stop(self) -> None:
        self._stopped.set()
        self._jobs.put(None)

    def join(self) -> None:
        self._thread.join()

    def _work(self) -> None:
        waiting: list[tuple[Job, Any, Future[Answer]]] = []
        try:
            while not self._stopped.is_set():
                while len(waiting) < SLOTS and (not waiting or not self._jobs.empty()):
                    item = self._jobs.get()
                    if item is None:
                        return
                    if item[0].slide in self._pool.bad:
                        item[2].set_result(Failed(self._pool.bad[item[0].slide]))
                    else:
                        waiting.append(item)
                waiting = self._hand(waiting)
        except BaseException as error:
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            raise
        finally:
            self._end()
            for _, _, future in waiting:
                future.cancel()
            while not self._jobs.empty():
                if (item := self._jobs.get()) is not None:
                    item[2].cancel()

    def _hand(self, items: list[tuple[Job, Any, Future[Answer]]]) -> list[tuple[Job, Any, Future[Answer]]]:
        """Have the process read some tiles; returns those that it did not come to."""
        fresh = self._process is None
        if fresh:
            self._start()
        try:
            self._pipe.send([job for job, _, _ in items])
        except OSError:  # it died while it had nothing to do: no slide's fault
            self._end()
            return items
        for at, (job, out, future) in enumerate(items):
            answer = self._answer(self._timeout + (GRACE_S if fresh else 0))
            fresh = False
            if self._stopped.is_set():
                return items[at:]
            if isinstance(answer, Drawn):
                np.copyto(out, self._tiles[at])
                future.set_result(answer)
                continue
            reason = answer if answer is not None else self._end()
            self._pool.bad.setdefault(job.slide, reason)
            future.set_result(Failed(reason))
            if answer is None:  # the process is gone
                return [item for item in items[at + 1 :] if not self._is_bad(item)]
        return []

    def _is_bad(self, item: tuple[Job, Any, Future[Answer]]) -> bool:
        job, _, future = item
        if job.slide in self._pool.bad:
            future.set_result(Failed(self._pool.bad[job.slide]))
            return True
        return False

    def _answer(self, seconds: float) -> Drawn | str | None:
        """A tile's answer; None if the process died, or took too long."""
        self._hung = False
        try:
            waited = 0.0
            while not self._pipe.poll(0.5):
                waited += 0.5
                if self._stopped.is_set():
                    return None
                if waited >= seconds:
                    self._hung = True
                    return None
            found: Drawn | str = self._pipe.recv()
            return found
        except (EOFError, OSError):
            return None

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=serve, args=(theirs, self._memory, *self._given), daemon=True, name="pathtrain-slides"
        )
        with interpreter.without_main():
            self._process.start()
        theirs.close()

    def _end(self) -> str:
        """End the process; returns what became of it, in words."""
        process, self._process = self._process, None
        if process is None:
            return ""
        self._pipe.close()
        if getattr(self, "_hung", False) or self._stopped.is_set():
            process.kill()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
        code = process.exitcode
        if getattr(self, "_hung", False):
            return f"gave no tile within online.timeout={self._timeout:g} s"
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"the process that read it died ({how})"
