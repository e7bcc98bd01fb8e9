"""Opening plain files: never a pipe, which could be waited for for ever; errors name the file."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special(mode: int) -> str:
    """What is neither a file nor a folder, by its mode, as in "a pipe"; else ""."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "")


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
    what = special(mode)
    raise OSError(errno.EINVAL, f"is {what}, not a file; put the file itself there", str(path))


def open_regular(path: Path) -> BinaryIO:
    """A file to read; raises as ``descriptor_of``."""
    return io.BufferedReader(_Named(descriptor_of(path), path))


def read(path: Path, most: int | None = None) -> bytes:
    """A plain file's bytes.

    Args:
        path: of the file; links are followed.
        most: bytes; a larger file is not read.

    Raises:
        OSError: it cannot be read, or is something else or larger; its ``strerror`` says what.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(errno.EINVAL, f"has {size:,} bytes, at most {most:,} are read", str(path))
        # a file of a pseudo file system (/proc) says 0 and may go on for ever
        data = file.read() if most is None else file.read(most + 1)
        if most is not None and len(data) > most:
            raise OSError(errno.EINVAL, f"has more than the {most:,} bytes that are read", str(path))
        return data
