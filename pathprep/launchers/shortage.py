"""Too little memory: fewer tasks at a time; and an orderly end where even one alone has too little.

A task that a lack of memory ended is not to blame while others run beside it: it is tried again, with fewer.
Memory is short if Python says so, or if the system kills the process (SIGKILL), as it does then.
"""

import errno
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from pebble import ProcessExpired

from pathprep.errors import OutOfMemory

# Tasks in a row that fail with nothing beside them before the run ends: one alone may be a huge slide
STRIKES = 3


def is_short(error: BaseException | None) -> bool:
    """Whether a task ended for lack of memory, or may have: it was killed."""
    if isinstance(error, ProcessExpired):
        return bool(error.exitcode == -signal.SIGKILL)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def is_broken(error: BaseException | None) -> bool:
    """Whether the pool itself broke, which is no task's fault: a worker was killed before it had a task."""
    return isinstance(error, BrokenProcessPool)


@dataclass
class Pace:
    """How many tasks run at a time.

    Attributes:
        most: as many as were asked for. limit: at present; halved when memory is short, and raised by one for
            every ``most`` tasks that end well.
    """

    most: int
    limit: int = field(init=False)
    _well: int = 0
    _strikes: int = 0

    def __post_init__(self) -> None:
        self.limit = self.most

    @property
    def is_full(self) -> bool:
        """Whether it is what was asked for."""
        return self.limit == self.most

    def ended(self) -> None:
        """A task has ended for another reason than a lack of memory."""
        self._strikes = 0
        self._well += 1
        if self._well >= self.most and self.limit < self.most:
            self.limit, self._well = self.limit + 1, 0

    def slower(self) -> None:
        """Memory was short, with several tasks at a time."""
        self.limit, self._well = max(1, self.limit // 2), 0

    def strike(self) -> None:
        """A task has failed that was alone.

        Raises:
            OutOfMemory: it was one of many in a row.
        """
        self._strikes += 1
        if self._strikes >= STRIKES:
            raise OutOfMemory(
                f"{STRIKES} in a row failed for lack of memory, or were killed, with nothing beside them: "
                "give this machine or job more memory (Slurm: --mem; containers: their limit; `ulimit -v`)"
            )
