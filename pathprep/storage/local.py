"""A folder on a local disk, or one that the system has mounted."""

import errno
import os
import threading
from pathlib import Path
from typing import BinaryIO

from pathprep.storage import atomic
from pathprep.storage.base import FileInfo, Storage
from pathprep.storage.regular import descriptor_of, naming, open_regular

# Files kept open for reading parts of them; well under the usual limit of 1024 of a process
OPEN_FILES = 256


class _Open:
    """A file that stays open for as long as anyone holds this."""

    def __init__(self, path: Path) -> None:
        self.path, self.descriptor = path, descriptor_of(path)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # it could be opened
            os.close(self.descriptor)


class LocalStorage(Storage):
    """A local folder. Files of which parts are read stay open, the last OPEN_FILES of them.

    Raises, besides what is said below:
        OSError: the disk does not do what is asked.
    """

    root: Path

    def __init__(self, root: Path) -> None:
        self.root, self._lock = root, threading.Lock()
        self._open: dict[str, _Open] = {}

    def __reduce__(self) -> tuple[type["LocalStorage"], tuple[Path]]:
        return LocalStorage, (self.root,)  # descriptors stay in their process

    @property
    def absolute(self) -> str:
        return str(self.root.resolve())

    def read(self, name: str) -> bytes | None:
        try:
            with open_regular(self.root / name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        file = self._open.get(name) or self._opened(name)
        with naming(file.path):
            return os.pread(file.descriptor, length, offset)

    def _opened(self, name: str) -> _Open:
        with self._lock:
            file = self._open.get(name)
            if file is None:
                while len(self._open) >= OPEN_FILES:  # closed as soon as nobody reads it
                    del self._open[next(iter(self._open))]
                file = self._open[name] = _Open(self.root / name)
            return file

    def stream(self, name: str) -> BinaryIO:
        return open_regular(self.root / name)

    def size(self, name: str) -> int:
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return -1

    def listing(self, folder: str) -> list[FileInfo]:
        found = []
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    try:
                        state = entry.stat()
                    except FileNotFoundError:  # a temporary file, or one that is just replaced
                        continue
                    except OSError as error:
                        if error.errno != errno.ELOOP:
                            raise
                        continue  # a link to itself is no file
                    if entry.is_file():
                        name = f"{folder}/{entry.name}"
                        found.append(FileInfo(name, state.st_size, state.st_mtime_ns))
        except FileNotFoundError:
            return []
        return sorted(found)

    def odd(self, folder: str) -> list[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(f"{folder}/{entry.name}" for entry in entries if not _is_file(entry))
        except FileNotFoundError:
            return []

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_alone(path, data)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self._open.clear()


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False
