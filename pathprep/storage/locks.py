"""One process at a time in a folder that it writes.

The lock is flock on a file: the system drops it when its holder dies, whatever it died of, so there is
nothing to clean up after a kill. The file is opened without following a link and never truncated before it
is ours.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pathprep.errors import BusyError, NoLocksError

NAME = ".lock"


@contextmanager
def exclusive(path: Path, *, wait: bool = False, stays: bool = True) -> Iterator[None]:
    """Hold a lock file, which is made if absent.

    Args:
        path: of the lock file; its folder must exist. wait: for the holder, instead of giving up.
        stays: False removes it at the end, for a lock that lies among a user's own files.

    Raises:
        BusyError: another process holds it; it says which.
        NoLocksError: the file system has none.
        OSError: it cannot be opened for writing; a link is not followed.
    """
    with _held(path, wait) as file:
        try:
            with suppress(OSError):  # only a courtesy to who must wait: a full disk has none
                os.ftruncate(file.fileno(), 0)
                os.pwrite(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield
        except BaseException:
            with suppress(OSError):  # a disk that has become read-only: what it kept from doing is to be told
                _left(file, path, stays)
            raise
        _left(file, path, stays)


def _left(file: TextIO, path: Path, stays: bool) -> None:
    if stays:  # what lies there for years need not tell of a machine
        with suppress(OSError):
            os.ftruncate(file.fileno(), 0)
    else:
        path.unlink(missing_ok=True)  # while it is ours: who waits for it makes a new one


@contextmanager
def _held(path: Path, wait: bool) -> Iterator[TextIO]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with _closing(os.fdopen(descriptor, "r+", errors="replace")) as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(path, _holder(file.read(200))) from None
            except OSError as error:  # Lustre without flock, for one
                if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}:
                    raise
                raise NoLocksError(path, os.strerror(error.errno)) from None
            if os.fstat(file.fileno()).st_nlink:  # else its last holder removed it
                yield file
                return


@contextmanager
def _closing(file: TextIO) -> Iterator[TextIO]:
    """Close it at the end; a full disk may say so even then, and must not hide what was wrong before."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _holder(text: str) -> str:
    return text.strip() if text.strip().isprintable() and text.strip() else "another process"
