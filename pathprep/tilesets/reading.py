"""Reading a set's images: a bad one raises one kind of error, whatever it is; one that hangs is given up.

A file on a mount that died hangs for ever in whoever reads it, and nothing can wake that thread. So every
read has a thread of its own and so many seconds; after that it is left alone, and the shard goes on.
"""

import errno
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pathprep.errors import UnreadableSlide
from pathprep.storage import regular
from pathprep.tiles import limits
from pathprep.tilesets import images
from pathprep.tilesets.images import Picture
from pathprep.tilesets.items import Item

Value = TypeVar("Value")

PATIENCE_S = 60.0  # for one image
HANGS = 3  # so many in a row, and none was read in between: it is not the images

_ERRNO = re.compile(r"errno = (\d+)")  # in the words of HDF5


class Images:
    """The images of one shard; a context manager. ``read`` may be called from any thread.

    Args:
        root: the set's folder.
        in_rows: whether they are rows of HDF5 files.
        patience: seconds for one image.
        keep_metadata: see images.decode.
    """

    def __init__(
        self, root: Path, *, in_rows: bool, patience: float = PATIENCE_S, keep_metadata: bool = False
    ) -> None:
        self._root, self._patience, self._keep = root, patience, keep_metadata
        self._hanging: list[str] = []
        self._hung = False
        self._rows = None
        if in_rows:
            from pathprep.tilesets.hdf5 import Rows

            self._rows = Rows(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        data = self._patiently(item, lambda: regular.read(path, images.MOST_BYTES))
        return images.decode(data, self._keep)

    def _patiently(self, item: Item, work: Callable[[], Value]) -> Value:
        """The result of a read that hangs no longer than it may."""
        done: list[Value | BaseException] = []

        def run() -> None:
            try:
                done.append(work())
            except BaseException as error:  # handed to whoever waits
                done.append(error)

        thread = threading.Thread(target=run, daemon=True, name=f"read {item.source}")
        thread.start()
        thread.join(self._patience)
        if not done:
            raise self._hang(item)
        (result,) = done
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
