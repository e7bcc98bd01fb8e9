"""A function of the step, computed by a thread some steps before it is asked for."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 8  # steps that may be asked for again: more than DALI is ahead of who takes its batches


class Ahead(Generic[T]):
    """Results of ``work``, which must depend on the step alone; asked for by one thread at a time.

    Args:
        steps: so many are begun beyond the one that is asked for.
    """

    def __init__(self, work: Callable[[int], T], steps: int) -> None:
        self._work, self._steps = work, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._begun: dict[int, Future[T]] = {}

    def at(self, step: int) -> T:
        """A step's result; raises what ``work`` does."""
        for each in range(step, step + 1 + self._steps):
            if each not in self._begun:
                self._begun[each] = self._pool.submit(self._work, each)
        result = self._begun[step].result()
        for old in [each for each in self._begun if each < step - KEPT]:
            del self._begun[old]
        return result

    def close(self) -> None:
        """End the thread; nothing can be asked for after it."""
        self._pool.shutdown(cancel_futures=True)
