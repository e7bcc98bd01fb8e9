"""A folder on a local disk, or one that the system has mounted."""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

from pathprep.storage import atomic
from pathprep.storage.base import FileInfo, Storage

# Files kept open for reading parts of them; well under the usual limit of 1024 of a process
OPEN_FILES = 256


class LocalStorage(Storage):
    """A local folder. Files of which parts are read stay open.

    Raises, besides what is said below:
        OSError: the disk does not do what is asked.
    """

    root: Path

    def __init__(self, root: Path) -> None:
        self.root, self._lock = root, threading.Lock()
        self._open: OrderedDict[str, list[int]] = OrderedDict()  # descriptor, reads under way

    def __reduce__(self) -> tuple[type["LocalStorage"], tuple[Path]]:
        return LocalStorage, (self.root,)  # descriptors stay in their process

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        with self._lock:
            entry = self._open.get(name)
            if entry is None:
                entry = self._open[name] = [os.open(self.root / name, os.O_RDONLY), 0]
                entry[1] += 1
                self._shrink(OPEN_FILES)
            else:
                entry[1] += 1
                self._open.move_to_end(name)
        try:
            return os.pread(entry[0], length, offset)
        finally:
            with self._lock:
                entry[1] -= 1

    def _shrink(self, limit: int) -> None:
        for name in list(self._open)[: max(0, len(self._open) - limit)]:
            if not self._open[name][1]:
                os.close(self._open.pop(name)[0])

    def stream(self, name: str) -> BinaryIO:
        return (self.root / name).open("rb")

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
                    if entry.is_file():
                        name = f"{folder}/{entry.name}"
                        found.append(FileInfo(name, state.st_size, state.st_mtime_ns))
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda info: info.name)

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, data)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self._shrink(0)
