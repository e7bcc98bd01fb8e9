"""Slides of a store, fetched ahead of the processes that read them, and removed when these are done.

The processes ask for slides in the order in which these are fetched, so what lies in the scratch folder is
always what is read or comes next. A slide whose process died is fetched once more, beside the limit: it waits
for no room, since those that hold it may be waiting for its turn.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pathprep.errors import DatasetError, PathprepError, StoreError, UnreadableSlide, UsageError
from pathprep.slides import find
from pathprep.slides.find import SlideSource
from pathprep.slides.find_remote import RemoteSlide
from pathprep.storage.staging import Fetched, Staging
from pathprep.words import counted

Reply = Callable[[SlideSource | PathprepError], None]


class StagedSlides:
    """Use as a context manager, around the TileStream that asks for the slides.

    Args:
        slides: in the order of the stream's tasks. named: what each is called, and what is said of it.
        scratch, limit: see storage.staging.Staging.
    """

    def __init__(
        self,
        slides: Sequence[RemoteSlide],
        named: Callable[[int, SlideSource], SlideSource],
        scratch: Path | None,
        limit: int,
    ) -> None:
        self._slides, self._named, self._scratch, self._limit = list(slides), named, scratch, limit
        self._staging = Staging(self._slides, scratch, limit)
        self._there: dict[int, Fetched] = {}
        self._asking: dict[int, Reply] = {}
        self._gone: set[int] = set()
        self._again: dict[int, ExitStack] = {}
        self._lock, self._stack = threading.Lock(), ExitStack()
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        self._stack.enter_context(self._staging)
        self._thread = threading.Thread(target=self._fetch, name="staged", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for stack in self._again.values():
            stack.close()
        self._thread.join()

    def ask(self, number: int, reply: Reply) -> None:
        """Have ``reply`` called with a slide when it is there, or with what is wrong; from any thread."""
        with self._lock:
            if number in self._gone:
                threading.Thread(target=self._once_more, args=(number, reply), daemon=True).start()
                return
            found = self._there.get(number)
            if found is None and self._error is None:
                self._asking[number] = reply
                return
        reply(self._slide(number, found) if found is not None else _full(self._error))

    def done(self, number: int) -> None:
        """Remove a slide's files: the process that read it has ended, or does not want it."""
        with self._lock:
            stack = self._again.pop(number, None)
            found = None if number in self._gone else self._there.get(number)
            if found is not None:
                self._gone.add(number)
        if stack is not None:
            stack.close()
        if isinstance(found, Path):
            self._staging.release(number)

    def skip(self, number: int) -> None:
        """A slide that is not wanted any more is removed as soon as it has come."""
        self.ask(number, lambda _found: self.done(number))

    def local(self, text: str, number: int) -> str:
        """A message with a slide's place in the store instead of that in the scratch folder."""
        found = self._there.get(number)
        return text.replace(str(found), str(self._slides[number].store)) if isinstance(found, Path) else text

    def _fetch(self) -> None:
        try:
            for number, found in self._staging:
                with self._lock:
                    self._there[number] = found
                    reply = self._asking.pop(number, None)
                if reply is not None:
                    reply(self._slide(number, found))
        except OSError as error:  # the scratch disk is full: so it is for all that are left
            with self._lock:
                self._error = error
                waiting, self._asking = self._asking, {}
            for reply in waiting.values():
                reply(_full(error))

    def _once_more(self, number: int, reply: Reply) -> None:
        stack = ExitStack()
        slide = self._slides[number]
        try:
            staging = stack.enter_context(Staging([slide], self._scratch, max(self._limit, slide.size)))
            _, found = next(iter(staging))
        except OSError as error:
            stack.close()
            reply(_full(error))
            return
        with self._lock:
            self._again[number] = stack
            self._there[number] = found
        reply(self._slide(number, found))

    def _slide(self, number: int, found: Fetched) -> SlideSource | PathprepError:
        """The slide that lies in a folder."""
        if isinstance(found, StoreError | DatasetError):
            return found
        slide = self._slides[number]
        try:
            sources = find.look([found]).slides
        except UsageError as error:
            return UnreadableSlide(str(error).replace(str(found), str(slide.store)))
        if len(sources) != 1:
            return UnreadableSlide(
                f"{slide.path}: holds {counted(len(sources))}; put the files of each into a folder of its own"
            )
        return self._named(number, sources[0])


def _full(error: OSError | None) -> StoreError:
    why = error.strerror if error is not None else "it has ended"
    return StoreError(f"{error.filename if error else 'scratch'}: {why}; make room in `scratch`")
