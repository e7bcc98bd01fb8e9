"""Folders that are replaced at once: a reader, and a rerun after a kill, sees the old one or the new one.

The new folder is made under a temporary name beside the place, and the two change names in one call of the
system (renameat2, RENAME_EXCHANGE). Files in the old one that are not ours are linked into the new one
before, so that they are never missing. Writers to one place wait for each other.

Where the file system cannot exchange (NFS, some FUSE), the old folder is renamed away first, and back if that
was all: a kill between leaves it whole under ``.tmp-...~old~NAME``, and the next writer puts it back.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pathprep.errors import NoLocksError
from pathprep.storage import locks
from pathprep.storage.atomic import PREFIX, becomes, named, sync_folder

_PART = f"{PREFIX}part~"  # what is being copied
_AT_FDCWD, _EXCHANGE = -100, 2
_LACKING = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}
# Ours, and those of `pathtrain export` before there was this room
_LEFT = re.compile(
    rf"({re.escape(PREFIX)}[^~]*~\d+\.[0-9a-f]{{8}}~|\.export-)(?P<kind>new|old)~(?P<name>.+)", re.DOTALL
)


def publish_folder(path: Path, make: Callable[[Path], None], own: Collection[str] | None) -> None:
    """Make a folder, at once or not at all; what is there is replaced, but for files that are not ours.

    Args:
        path: the place; its parent must exist.
        make: writes the files, flushed, into an empty folder that it is given.
        own: the names of our files, right in the folder; None: whatever is in it is ours.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    path = path.resolve()  # of a link to a folder, the folder
    with _turn(path) as alone:
        if alone:
            recover(path.parent, own, path)
        temporary = _temporary(path, "new")
        temporary.mkdir()
        try:
            make(temporary)
            sync_folder(temporary)
            _swap(temporary, path, own)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError):
                _name_place(error, temporary, path)
            raise


def _name_place(error: OSError, temporary: Path, path: Path) -> None:
    """Errors of the system name the file that was asked for, not its temporary folder, which is gone."""
    for key in ("filename", "filename2"):
        name = getattr(error, key)
        if name is not None and Path(os.fsdecode(name)).is_relative_to(temporary):
            setattr(error, key, str(path / Path(os.fsdecode(name)).relative_to(temporary)))


@contextmanager
def _turn(path: Path) -> Iterator[bool]:
    """Until others have written there; False where there are no locks, and nobody can tell who is alive."""
    lock = path.parent / f"{PREFIX}{path.name}.lock"
    with ExitStack() as held:
        try:
            held.enter_context(locks.exclusive(lock, wait=True, stays=False))
            alone = True
        except NoLocksError:  # names differ, and exchanges do not meet: the last one counts
            alone = False
        yield alone


def _temporary(path: Path, kind: str) -> Path:
    return path.with_name(
        f"{PREFIX}{socket.gethostname()[:32]}~{os.getpid()}.{secrets.token_hex(4)}~{kind}~{path.name}"
    )


def recover(folder: Path, own: Collection[str] | None, only: Path | None = None) -> None:
    """Put back what killed writers left away from its place, and remove the rest; nobody else is writing.

    Args:
        folder: that holds the places. own: as of ``publish_folder``.
        only: one place; others may be written to.
    """
    for left, kind, place in left_over(folder):
        if only is not None and place != only:
            continue
        if kind == "old" and not place.exists():
            left.rename(place)
            continue
        if place.is_dir():
            _carry(left, place, own)
        shutil.rmtree(left, ignore_errors=True)


def left_over(folder: Path) -> list[tuple[Path, str, Path]]:
    """What killed writers left in a folder: where it lies, whether it is an old or a new one, its place."""
    found = []
    for path in sorted(folder.glob(".*")):
        match = _LEFT.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink():
            found.append((path, match["kind"], folder / match["name"]))
    return found


def _swap(temporary: Path, path: Path, own: Collection[str] | None) -> None:
    if not path.exists():
        with suppress(FileExistsError):  # made meanwhile, where there are no locks
            temporary.rename(path)
            sync_folder(path.parent)
            return
    _link(path, temporary, own)
    if exchange(temporary, path):
        old = temporary
    else:
        old = _temporary(path, "old")
        path.rename(old)
        try:
            temporary.rename(path)
        except BaseException:
            old.rename(path)
            raise
    sync_folder(path.parent)
    # the new one is there: what fails now leaves a folder that the next run removes, and is told
    with named(old):
        _carry(old, path, own)
        shutil.rmtree(old)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change names, at once; False where the file system cannot.

    Raises:
        OSError: it can, and did not.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _LACKING:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _foreign(folder: Path, own: Collection[str] | None) -> Iterator[tuple[Path, Path]]:
    """Files (and links) that are not ours: where they lie, and their path in the folder."""
    if own is None:
        return
    for here, folders, files in os.walk(folder):
        for name in [*files, *(name for name in folders if (Path(here) / name).is_symlink())]:
            path = Path(here) / name
            ours = path.parent == folder and (name in own or becomes(name) in own)  # a killed writer's too
            if not name.startswith(_PART) and not ours:
                yield path, path.relative_to(folder)


def _link(old: Path, new: Path, own: Collection[str] | None) -> None:
    """Have what is not ours in both folders."""
    for path, name in _foreign(old, own):
        there = new / name
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, there, follow_symlinks=False)
        except OSError:  # a file system without links; whole, since it may be carried back
            part = there.with_name(f"{_PART}{secrets.token_hex(4)}")
            shutil.copy2(path, part, follow_symlinks=False)
            part.rename(there)


def _carry(old: Path, new: Path, own: Collection[str] | None) -> None:
    """Move what is not ours and was written after it was linked."""
    for path, name in _foreign(old, own):
        there = new / name
        if os.path.lexists(there):
            now, before = there.lstat(), path.lstat()
            if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino) or now.st_mtime >= before.st_mtime:
                continue
        there.parent.mkdir(parents=True, exist_ok=True)
        path.replace(there)
