"""Opening plain files: never a pipe, which could be waited for for ever; errors name the file."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name into an error of the system that lacks it, as those of reading do."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


class _Named(io.FileIO):
    """An open file whose errors name it."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "rb")
        self._path = path

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        with naming(self._path):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with naming(self._path):
            return super().readall()


def descriptor_of(path: Path) -> int:
    """A descriptor for reading.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, socket or device.
    """
    # a pipe without a writer opens at once with O_NONBLOCK, which does nothing to plain files
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a plain file", str(path))


def open_regular(path: Path) -> BinaryIO:
    """A file to read; raises as ``descriptor_of``."""
    return io.BufferedReader(_Named(descriptor_of(path), path))
