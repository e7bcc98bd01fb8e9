"""Opening what must be a file: a pipe, a device or a socket of its name would hang or never end."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind(mode: int) -> str:
    """What a file is by its mode, as in "a pipe"; "" for a plain file."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "")


def open_file(path: Path) -> BinaryIO:
    """A plain file to read; links are followed.

    Raises:
        OSError: it cannot be opened, or is something else; its ``strerror`` says what.
    """
    # without O_NONBLOCK, opening a pipe waits for somebody to write to it
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        other = kind(os.fstat(descriptor).st_mode)
        if other:
            raise OSError(errno.EINVAL, f"is {other}, not a file; put the file itself there", str(path))
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read(path: Path, most: int | None = None) -> bytes:
    """A plain file's bytes.

    Args:
        path: of the file; links are followed.
        most: bytes; a larger file is not read.

    Raises:
        OSError: it cannot be read, or is something else or larger; its ``strerror`` says what.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(errno.EINVAL, f"has {size:,} bytes, at most {most:,} are read", str(path))
        # a file of a pseudo file system (/proc) says 0 and may go on for ever
        data = file.read() if most is None else file.read(most + 1)
        if most is not None and len(data) > most:
            raise OSError(errno.EINVAL, f"has more than the {most:,} bytes that are read", str(path))
        return data
