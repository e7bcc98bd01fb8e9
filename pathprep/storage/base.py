"""Files of one folder, wherever it is: on a local disk (LocalStorage) or at a URL (UrlStorage)."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from pathprep.storage.secrets import without_secrets

# Levels of JSON that is read; files of ours have under ten
DEEPEST = 64


# Of whose URLs the host is empty, file:///a
HOSTLESS = ("file", "local")


class Url(PurePosixPath):
    """A URL put together as paths are: ``Url("s3://bucket") / "shards"``; as text it has no password."""

    def __str__(self) -> str:
        # a path folds the two slashes into one, and three too
        return without_secrets(self.real)

    @property
    def real(self) -> str:
        """With its password, to get there."""
        protocol, _, rest = super().__str__().partition(":/")
        return f"{protocol}://{'/' if protocol.rpartition('::')[2] in HOSTLESS else ''}{rest}"


def is_url(place: PurePath | str) -> bool:
    """Whether a place is a URL; also one that was taken for a path, which folds its slashes."""
    return re.match(r"[a-z][a-z0-9+.-]*(::[a-z0-9+.-]+)*:/", str(place)) is not None


class FileInfo(NamedTuple):
    """A file in a listing.

    Attributes:
        name: relative to the storage, as in ``slides/a.json``. size: bytes.
        modified: nanoseconds since 1970; 0 where the filesystem does not say.
    """

    name: str
    size: int
    modified: int

    @property
    def last(self) -> str:
        """The name without its folder."""
        return self.name.rpartition("/")[2]


class Storage(ABC):
    """Files of one folder; names are relative to it, as in ``slides/a.json``.

    It goes to other processes as its place alone. All methods may be called from any thread.

    Attributes:
        root: the folder or URL.
    """

    root: Path | Url

    def __str__(self) -> str:
        return str(self.root)

    @property
    @abstractmethod
    def absolute(self) -> str:
        """The place as other processes find it."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A whole file; None if it is absent."""

    @abstractmethod
    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """A part of a file; shorter where the file ends.

        Raises:
            FileNotFoundError: it is absent.
        """

    @abstractmethod
    def stream(self, name: str) -> BinaryIO:
        """A file to read from its beginning to its end.

        Raises:
            FileNotFoundError: it is absent.
        """

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file; -1 if it is absent."""

    @abstractmethod
    def listing(self, folder: str) -> list[FileInfo]:
        """The files right in a folder, by name; none if it is absent."""

    def odd(self, folder: str) -> list[str]:
        """What is right in a folder and no file, by name: pipes, devices, folders, links to nothing."""
        return []

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file: afterwards it is there whole, or as it was before if this fails."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is absent is no error."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self.size(name) >= 0

    def sha256(self, name: str) -> str:
        """Hash of a file's bytes, 64 hex digits.

        Raises:
            FileNotFoundError: it is absent.
        """
        with self.stream(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON object; None if it is absent, or not that."""
        return parsed(self.read(name))

    @abstractmethod
    def close(self) -> None:
        """Close what reads have opened, and nobody is reading."""


def parsed(data: bytes | None) -> dict[str, Any] | None:
    """A JSON object; None if there is none in it, or one that is nested as deep as no file of ours.

    What its values are is for the caller to ask: it may be anything that JSON has, NaN and infinity too.
    """
    try:
        value = None if data is None else json.loads(data)
    # RecursionError: brackets by the thousand. Numbers of thousands of digits are a ValueError
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _is_flat(data or b"", value) else None


def _is_flat(data: bytes, value: Any) -> bool:
    """Whether an object has at most DEEPEST levels, so that it can be hashed and written again."""
    if data.count(b"{") + data.count(b"[") <= DEEPEST:
        return True
    level = [value]
    for _ in range(DEEPEST):
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [each for part in parts for each in part if isinstance(each, dict | list)]
        if not level:
            return True
    return False
