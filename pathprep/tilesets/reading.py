"""Reading a set's images: a bad one raises one kind of error, whatever it is; one that hangs is given up.

A file on a mount that died hangs for ever in whoever reads it, and nothing can wake that thread. So each
worker has another thread read for it, and waits so many seconds; after that the reader is left alone, the
next image gets a new one, and the shard goes on.
"""

import errno
import os
import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pathprep.errors import UnreadableSlide
from pathprep.images import limits
from pathprep.storage import regular
from pathprep.tilesets import images
from pathprep.tilesets.images import Picture
from pathprep.tilesets.items import Item

PATIENCE_S = 60.0  # for one image
HANGS = 3  # so many in a row, and none was read in between: it is not the images

_ERRNO = re.compile(r"errno = (\d+)")  # in the words of HDF5


class Images:
    """The images of one shard; a context manager. ``read`` may be called from any thread.

    Args:
        root: the set's folder.
        in_rows: whether they are rows of HDF5 files.
        patience: seconds for one image.
        keep_metadata, crop: see images.decode.
    """

    def __init__(
        self,
        root: Path,
        *,
        in_rows: bool,
        patience: float = PATIENCE_S,
        keep_metadata: bool = False,
        crop: bool = False,
    ) -> None:
        self._root, self._patience, self._keep, self._crop = root, patience, keep_metadata, crop
        self._hanging: list[str] = []
        self._hung = False
        self._own = threading.local()  # each worker's reader
        self._readers: list[_Reader] = []
        self._rows = None
        if in_rows:
            from pathprep.tilesets.hdf5 import Rows

            self._rows = Rows(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._readers:
            reader.leave()
        # who closes a file that hangs, hangs too
        if self._rows is not None and not self._hung:
            self._rows.close()

    def read(self, item: Item) -> Picture:
        """One image.

        Raises:
            ValueError: it cannot be used, whatever its reader raised; says why.
            FileNotFoundError: there is none.
            OSError: it could not be read this time: rights, a disk, a network, too little memory.
            UnreadableSlide: HANGS images in a row hang.
        """
        try:
            picture = self._read(item)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EISDIR):  # of storage.regular: no file, or too large
                raise ValueError(limits.reason(error)) from None
            if error.errno is None and (said := _ERRNO.search(str(error))):
                raise OSError(int(said[1]), os.strerror(int(said[1]))) from None
            if error.errno is None:
                raise ValueError(limits.reason(error)) from None
            raise
        except UnreadableSlide:
            raise
        except Exception as error:
            # no image is so large: the machine is short of it for now
            if MemoryError in (type(error), type(error.__context__)):
                raise OSError(errno.ENOMEM, "does not fit into memory") from None
            raise ValueError(limits.reason(error)) from None
        self._hanging.clear()
        return picture

    def _read(self, item: Item) -> Picture:
        if (rows := self._rows) is not None:
            return Picture(self._patiently(item, lambda: rows.read(item)), None)
        path = self._root / item.file
        most = limits.MOST_BYTES if self._crop else images.MOST_BYTES
        data = self._patiently(item, lambda: regular.read(path, most))
        return images.decode(data, self._keep, self._crop)

    def _patiently(self, item: Item, work: Callable[[], Any]) -> Any:
        """The result of a read that hangs no longer than it may."""
        reader: _Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = _Reader()
            self._readers.append(reader)
        try:
            result = reader.ask(work, self._patience)
        except queue.Empty:
            self._own.reader = None
            raise self._hang(item) from None
        if isinstance(result, BaseException):
            raise result
        return result

    def _hang(self, item: Item) -> Exception:
        self._hung = True
        self._hanging.append(item.source)
        if len(self._hanging) < HANGS:
            return OSError(errno.ETIMEDOUT, f"did not come within {self._patience:g} s; is its disk there?")
        return UnreadableSlide(
            f"{self._root}: does not answer: {', '.join(self._hanging[:HANGS])} did not come within "
            f"{self._patience:g} s each; see that its disk or mount works, and run the command again"
        )


class _Reader:
    """A thread that reads for one worker; to start one for every image would take longer than to read it."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="read").start()

    def ask(self, work: Callable[[], Any], seconds: float) -> Any:
        """What the work came to: its value, or the error that it raised.

        Raises:
            queue.Empty: it is not done after so many seconds; ask this reader nothing more.
        """
        self._asked.put(work)
        return self._done.get(timeout=seconds)

    def leave(self) -> None:
        """Let the thread end, when it has done what it does."""
        self._asked.put(None)

    def _run(self) -> None:
        while (work := self._asked.get()) is not None:
            try:
                self._done.put(work())
            except BaseException as error:  # handed to whoever waits
                self._done.put(error)
            del work  # and with it the image
