"""Writes that are either complete or absent.

A file is written under a temporary name in its own folder, flushed to disk, renamed over its final
name, and the folder is flushed. A reader, and a rerun after a crash, sees the old file or the new
one, never a part of one.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

PREFIX = ".tmp-"
# Temporary files of another host cannot be told dead from alive; a day is longer than any slide takes.
FOREIGN_AGE_S = 24 * 3600


def _temporary(path: Path) -> Path:
    return path.with_name(f"{PREFIX}{socket.gethostname()}~{os.getpid()}~{path.name}")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished, flushed temporary file to its final name, durably."""
    temporary.replace(path)
    _sync_folder(path.parent)


@contextmanager
def pending(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a temporary file beside ``path``; flushed on success, removed on error, never renamed here."""
    temporary = _temporary(path)
    try:
        with temporary.open("w+b") as file:
            yield file, temporary
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a whole file atomically."""
    with pending(path) as (file, temporary):
        file.write(data)
    publish(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a killed process that nobody has waited for yet still has its number
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # gone meanwhile; alive as far as one can tell without /proc
    return state not in "ZX"


def sweep(folder: Path) -> int:
    """Remove the temporary files that dead writers left in ``folder``; returns how many."""
    removed = 0
    for path in folder.glob(f"{PREFIX}*"):
        host, _, rest = path.name.removeprefix(PREFIX).partition("~")
        pid = rest.partition("~")[0]
        if not pid.isdigit():
            continue  # not written by this module
        try:
            if host == socket.gethostname():
                dead = not _alive(int(pid))
            else:
                dead = time.time() - path.stat().st_mtime > FOREIGN_AGE_S
        except FileNotFoundError:  # its writer has just published it
            continue
        if dead:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
