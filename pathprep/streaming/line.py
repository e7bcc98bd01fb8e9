"""The run's end of a connection to a process that reads a slide."""

import mmap
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.streaming.sender import SLOTS


@dataclass
class Line:
    """The connection to a process that reads a slide."""

    connection: Connection
    slide: int = -1
    process: int = 0
    memory: npt.NDArray[np.uint8] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: bool = True
    told: bool = False  # which slide to read
    taken: int = 0  # slots that the consumer has not given back
    since: float = field(default_factory=time.monotonic)  # when it last could, or did, go on

    def send(self, message: Any) -> None:
        """Send, unless the process is gone."""
        with self.lock, suppress(OSError):
            if self.open:
                self.connection.send(message)

    def give_back(self, slot: int) -> None:
        """Let the process write to a slot again."""
        self.send(slot)
        with self.lock:
            if self.taken == SLOTS:
                self.since = time.monotonic()
            self.taken -= 1

    def take(self, slot: int, count: int) -> npt.NDArray[np.uint8]:
        """The tiles that are in a slot."""
        assert self.memory is not None
        with self.lock:
            self.taken, self.since = self.taken + 1, time.monotonic()
        return self.memory[slot, :count]

    def hangs(self, seconds: float) -> bool:
        """Whether it has sent nothing for so long, though it had room for tiles."""
        with self.lock:
            return self.open and self.told and self.taken < SLOTS and time.monotonic() - self.since > seconds

    def close(self) -> None:
        with self.lock:
            self.open = False
            self.connection.close()


def mapped(handle: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Shared memory that another process has sent, read only; the handle is closed."""
    try:
        memory = mmap.mmap(handle, int(np.prod(shape)), prot=mmap.PROT_READ)
    finally:
        os.close(handle)
    return np.frombuffer(memory, np.uint8).reshape(shape)
