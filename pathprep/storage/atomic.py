"""Writes that are either complete or absent.

A file is written under a temporary name in its own folder, flushed to disk, renamed over its final
name, and the folder is flushed. A reader, and a rerun after a crash, sees the old file or the new
one, never a part of one.

A writer holds a lock (flock) on its temporary file until it is renamed. The system drops the lock when
the writer dies, whatever it died of and whatever host or container it ran in, and so tells the sweep
which files are dead. That holds for writers under the same kernel, in whichever container with whatever
host name: temporary names carry the kernel's boot id. Between machines it need not hold: a share may keep
locks to itself, and a server does not see by flock what its NFS clients have locked. So files of another
machine are removed only when they have not been written to for FOREIGN_AGE_S.
"""

import errno
import fcntl
import io
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from pathprep.errors import FULL_DISK

PREFIX = ".tmp-"
LONGEST = 255  # bytes of a file's name
# Where locks do not reach other hosts (Lustre with localflock) or do not exist, age tells the dead from
# the living: a file that was not written to for longer than a slide may take.
FOREIGN_AGE_S = 2 * 3600
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

# Locks of finished temporary files that are still to be renamed: a second descriptor of each
_held: dict[Path, int] = {}


@cache
def _boot() -> str:
    """What the processes under this kernel have in common, and no others; "" if it does not say."""
    try:
        return _BOOT.read_text().replace("-", "")[:8]
    except OSError:  # not Linux
        return ""


def _temporary(path: Path) -> Path:
    own = f"{PREFIX}{socket.gethostname()}~{os.getpid()}.{_boot()}.{secrets.token_hex(4)}~"
    room = LONGEST - len(own)
    ending = os.fsdecode(os.fsencode(path.name)[-room:]) if room > 0 else ""
    return path.with_name(own + ending)


def becomes(name: str) -> str | None:
    """What the temporary file of a name was to become; None if it is no name of ours."""
    writer, _, rest = name.removeprefix(PREFIX).partition("~")
    own = name.startswith(PREFIX) and writer and rest.partition("~")[2]
    return own or None


def sync_folder(folder: Path) -> None:
    """Have the system keep what was renamed in a folder."""
    with named(folder):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _lock(fd: int, *, wait: bool) -> bool | None:
    """True: it is ours; False: another holds it; None: this filesystem has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the system name the file that was to be written: not its temporary one, and not none."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


class _Raw(io.FileIO):
    """A temporary file whose errors name the one that it is to become."""

    final: Path

    def write(self, data: Any) -> int:
        with named(self.final):
            return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        with named(self.final):
            return super().truncate(size)


def _open(temporary: Path, path: Path) -> BinaryIO:
    raw = _Raw(temporary, "w+b")
    raw.final = path
    return io.BufferedRandom(raw)


def _create(temporary: Path, path: Path) -> BinaryIO:
    """Open and lock a new file; again if a sweep took it for dead between the two."""
    while True:
        file = _open(temporary, path)
        try:
            _lock(file.fileno(), wait=True)
            if os.fstat(file.fileno()).st_nlink:
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished, flushed temporary file (or folder) to its final name, durably."""
    with named(path):
        temporary.replace(path)
        _release(temporary)
        sync_folder(path.parent)


def discard(temporary: Path) -> None:
    """Remove a temporary file that is not to be published; one that is gone already is no error."""
    temporary.unlink(missing_ok=True)
    _release(temporary)


def _release(temporary: Path) -> None:
    held = _held.pop(temporary, None)
    if held is not None:
        os.close(held)


@contextmanager
def pending(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a temporary file beside ``path``; flushed on success, removed on error.

    It is renamed by ``publish`` or removed by ``discard``, one of which must follow.
    """
    temporary = _temporary(path)
    try:
        with named(path):
            file = _create(temporary, path)
        try:
            yield file, temporary
            with named(path):
                file.flush()
                os.fsync(file.fileno())
                _held[temporary] = os.dup(file.fileno())  # shares the lock
                file.close()
        except BaseException:
            with suppress(OSError):  # it would say again what has just been said
                file.close()
            raise
    except BaseException as error:
        _drop(temporary)
        if isinstance(error, OSError) and error.errno in FULL_DISK and error.filename is None:
            # who writes to the file's name, or a library, does not tell which
            error.filename = str(path)
        raise


def _drop(temporary: Path) -> None:
    """Discard after an error, which is the one to be told: a full disk may not remove either."""
    with suppress(OSError):
        discard(temporary)
    _release(temporary)


def write_bytes(path: Path, data: bytes | memoryview, mode: int | None = None) -> None:
    """Write a whole file atomically.

    Args:
        mode: its rights, from its first byte on; those of the umask without.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    with pending(path) as (file, temporary):
        if mode is not None:
            with named(path):
                os.fchmod(file.fileno(), mode)
        file.write(data)
    try:
        publish(temporary, path)
    except BaseException:
        _drop(temporary)
        raise


def write_alone(path: Path, data: bytes | memoryview, mode: int | None = None) -> None:
    """Write a whole file atomically where no run sweeps: a page or a result in a folder of the user's.

    What dead writers of the same file have left there is removed.

    Args:
        mode: as of ``write_bytes``.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    sweep(path.parent, path.name)
    write_bytes(path, data, mode)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes."""
    write_bytes(path, as_json(value))


def as_json(value: Any) -> bytes:
    """A value as files hold it."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def sweep(folder: Path, of: str | None = None) -> int:
    """Remove the temporary files that dead writers left in ``folder``; returns how many.

    Args:
        of: only those that were to become the file of this name.

    Those of another user that may not be opened or removed are left to that user's own next run.
    """
    removed = 0
    for path in folder.glob(f"{PREFIX}*"):
        name = becomes(path.name)
        if name is None or of not in (None, name):
            continue  # not written by this module, or of another file
        host, writer, *_ = path.name.removeprefix(PREFIX).split("~")
        near = host == socket.gethostname() or (_boot() and writer.split(".")[1:2] == [_boot()])
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "r+b") as file:
                locked = _lock(file.fileno(), wait=False)
                old = time.time() - os.fstat(file.fileno()).st_mtime > FOREIGN_AGE_S
                if (old and locked is not False) or (locked and near):
                    path.unlink(missing_ok=True)
                    removed += 1
        except (FileNotFoundError, PermissionError):  # its writer has just published it; another user's
            continue
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ELOOP, errno.EISDIR):  # a link, a folder: not ours
                raise
    return removed
