"""How far the work on tiles is: logged a line a file, or shown by whoever watches."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Is told the title, and the tiles done, of all, and a second; again and again
Watch = Callable[[str, int, int, float], None]

log = logging.getLogger(__name__)
_watch: ContextVar[Watch | None] = ContextVar("_watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Have what is worked on in here shown instead of logged."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


class TileProgress:
    """Counts tiles of one piece of work.

    Args:
        total: tiles.
        title: what is done with them, in a word.
    """

    def __init__(self, total: int, title: str) -> None:
        self._total, self._title = total, title
        self._done, self._start = 0, time.perf_counter()

    def advance(self, count: int) -> None:
        """Count finished tiles."""
        self._done += count
        if watch := _watch.get():
            watch(self._title, self._done, self._total, self.rate)

    def expect(self, total: int) -> None:
        """Set how many there will be, as far as that is known by now."""
        self._total = total

    @property
    def rate(self) -> float:
        """Tiles a second since the start."""
        return self._done / max(time.perf_counter() - self._start, 1e-9)

    def note(self, text: str) -> None:
        """Say something that matters in any case; an empty text is not said."""
        if text:
            log.info("%s: %s", self._title, text)

    def line(self, text: str) -> None:
        """Say that something is finished, where nobody watches."""
        if _watch.get() is None:
            log.info("%s: %s, %.0f tiles/s", self._title, text, self.rate)
