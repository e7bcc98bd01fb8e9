"""Files at a URL, on any filesystem that fsspec knows, with errors that say what to do.

Object stores put a whole object or none; on other filesystems a file is uploaded under a temporary name and
moved.
"""

import errno
import io
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeVar

from pathprep.errors import FULL_DISK, DatasetError, StoreError, UsageError, why
from pathprep.storage import atomic
from pathprep.storage.base import FileInfo, Storage, Url
from pathprep.storage.secrets import without_secrets

# A put makes the object at once and whole, or not at all; a move would be a second copy
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos", "bos"}
EXTRAS = {"s3": "pathprep[s3]", "s3a": "pathprep[s3]"}
# Without them no request can succeed, and the libraries have errors of their own for it
_CREDENTIALS = ("credential", "token", "auth")
Result = TypeVar("Result")
log = logging.getLogger(__name__)
# Of one request while a file is read from its beginning to its end
STREAM_BYTES = 8 << 20


class UrlStorage(Storage):
    """Files under one URL.

    Raises, besides what is said below:
        DatasetError: no request can succeed: no such bucket, access denied, no credentials.
        StoreError: this one did not, after the filesystem's own retries.
        OSError: a disk is full.
    """

    root: Url

    def __init__(self, url: PurePath | str) -> None:
        self.root = Url(url)
        self._place: tuple[int, Any, str] | None = None

    @classmethod
    def of(cls, given: PurePath | str) -> "UrlStorage":
        """The storage of a URL that a user gave.

        Raises:
            UsageError: fsspec does not know the URL, or the library for it is not installed.
        """
        storage = cls(given)
        url = storage.root  # which has no password as text
        protocol = storage.root.parts[0].removesuffix(":").rpartition("::")[2]
        if isinstance(given, str) and re.match(r"(?:\S*::)?(?:web)?hdfs:///", given):
            raise UsageError(
                f"{given}: names no host; give it, as in {protocol}://host:port/folder, or "
                f"{protocol}://default/folder for the one that Hadoop's settings name"
            )
        if len(storage.root.parts) == 1:
            raise UsageError(f"{url}: names no bucket or folder; give one, as in s3://bucket/folder")
        try:
            storage._filesystem()
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            fix = f"install with the extra s3: pip install '{extra}'" if extra else "install it with pip"
            raise UsageError(
                f"{url}: the library for {protocol}:// is not installed ({_words(error)}); {fix}"
            ) from None
        except ValueError as error:
            raise UsageError(f"{url}: {_words(error)}") from None
        except Exception as error:  # sftp:// and others connect at once
            raise UsageError(f"{url}: cannot be opened ({_words(error)})") from None
        return storage

    def __reduce__(self) -> tuple[type["UrlStorage"], tuple[Url]]:
        return UrlStorage, (self.root,)  # a connection stays in its process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UrlStorage) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    def _filesystem(self) -> tuple[Any, str]:
        """The filesystem, opened again in a process that was forked, and the path there."""
        if self._place is None or self._place[0] != os.getpid():
            import fsspec

            filesystem, path = fsspec.core.url_to_fs(self.root.real)
            self._place = os.getpid(), filesystem, path.rstrip("/")
        return self._place[1:]

    def _at(self, name: str) -> tuple[Any, str]:
        filesystem, path = self._filesystem()
        return filesystem, f"{path}/{name}"

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """The errors of any backend as ours; FileNotFoundError stays, and says so in the system's words."""
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self}/{name}") from None
        except (DatasetError, StoreError):
            raise
        except PermissionError as error:
            raise DatasetError(
                f"{self.root}/{name}: access denied ({_words(error)}); check the credentials, and that they "
                "may list, read, write and delete there"
            ) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise OSError(error.errno, error.strerror, f"{self.root}/{name}") from None
            if any(word in type(error).__name__.lower() for word in _CREDENTIALS):
                raise DatasetError(f"{self.root}: no valid credentials ({_words(error)})") from None
            raise StoreError(
                f"{self.root}/{name}: {_words(error)}; the same command goes on from here"
            ) from None

    @property
    def absolute(self) -> str:
        return str(self)

    def read(self, name: str) -> bytes | None:
        def whole(filesystem: Any, path: str) -> bytes:
            return bytes(filesystem.cat_file(path))

        return self._fresh(name, whole, None)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        filesystem, path = self._at(name)
        with self._told(name):
            data: bytes = filesystem.cat_file(path, start=offset, end=offset + length) if length else b""
            return data

    def stream(self, name: str) -> BinaryIO:
        filesystem, path = self._at(name)
        with self._told(name):
            file = filesystem.open(path, "rb", block_size=STREAM_BYTES, cache_type="readahead")
        return io.BufferedReader(_Stream(self, name, file))

    def size(self, name: str) -> int:
        def ask(filesystem: Any, path: str) -> int:
            return int(filesystem.info(path)["size"])

        return self._fresh(name, ask, -1)

    def listing(self, folder: str) -> list[FileInfo]:
        def ask(filesystem: Any, path: str) -> list[FileInfo]:
            files = (entry for entry in filesystem.ls(path, detail=True) if entry["type"] == "file")
            return sorted(_info(folder, entry) for entry in files)

        none: list[FileInfo] = []
        found = self._fresh(folder, ask, none)
        self._filesystem()[0].invalidate_cache()
        return found

    def tree(self) -> list[FileInfo]:
        """All files below the URL, sorted by name."""

        def ask(filesystem: Any, path: str) -> list[FileInfo]:
            found = filesystem.find(path, detail=True)
            inside = {str(name)[len(path.rstrip("/")) + 1 :]: entry for name, entry in found.items()}
            listed = (_info(name.rpartition("/")[0], entry) for name, entry in inside.items() if name)
            return sorted(each._replace(name=each.name.lstrip("/")) for each in listed)

        none: list[FileInfo] = []
        return self._fresh("", ask, none)

    def get(self, name: str, local: Path) -> None:
        """Download a file; where this fails, a part of it may lie there.

        Raises:
            FileNotFoundError: it is not there.
        """
        filesystem, path = self._at(name)
        with self._told(name):
            filesystem.get_file(path, str(local))

    def _fresh(self, name: str, ask: Callable[[Any, str], Result], absent: Result) -> Result:
        """What the filesystem answers at this moment."""
        filesystem, path = self._at(name)
        with self._told(name):
            filesystem.invalidate_cache()
            try:
                return ask(filesystem, path)
            except FileNotFoundError:
                return absent

    def write(self, name: str, data: bytes) -> None:
        self._put(name, lambda filesystem, path: filesystem.pipe_file(path, data))

    def put(self, local: Path, name: str) -> None:
        """Upload a file: afterwards it is there whole, or as it was before if this fails."""
        try:
            self._put(name, lambda filesystem, path: filesystem.put_file(str(local), path))
        except DatasetError:
            if local.exists():
                raise
            raise StoreError(f"{local}: removed from `scratch` while it was in use") from None

    def _put(self, name: str, send: Callable[[Any, str], Any]) -> None:
        filesystem, path = self._at(name)
        with self._told(name):
            try:
                if self.root.parts[0].removesuffix(":") in OBJECT_STORES:
                    send(filesystem, path)
                    return
                folder, _, last = path.rpartition("/")
                filesystem.makedirs(folder, exist_ok=True)
                temporary = f"{folder}/{atomic.PREFIX}{secrets.token_hex(8)}~{last}"
                try:
                    send(filesystem, temporary)
                    filesystem.mv(temporary, path)
                except BaseException:
                    with suppress(Exception):
                        filesystem.rm_file(temporary)
                    raise
            except FileNotFoundError as error:
                raise DatasetError(
                    f"{self.root}: cannot be written ({_words(error)}); make the bucket first"
                ) from None

    def remove(self, name: str) -> None:
        filesystem, path = self._at(name)
        with self._told(name), suppress(FileNotFoundError):
            filesystem.rm_file(path)

    def close(self) -> None:
        """There is nothing open; each read is a request of its own."""

    def sweep(self, names: list[str]) -> None:
        """Remove those temporary files among ``names`` that a killed run left behind some hours ago.

        Those whose age the filesystem does not tell stay, and the log says so.
        """
        for name in names:
            if name.rpartition("/")[2].startswith(atomic.PREFIX):
                filesystem, path = self._at(name)
                with self._told(name), suppress(FileNotFoundError):
                    try:
                        written = filesystem.modified(path)
                    except NotImplementedError:  # FTP, for one
                        log.warning("%s/%s: may be in work, or of a killed run; then delete it", self, name)
                        continue
                    if time.time() - written.timestamp() > atomic.FOREIGN_AGE_S:
                        filesystem.rm_file(path)


class _Stream(io.RawIOBase):
    """A file of the filesystem whose errors are ours."""

    def __init__(self, storage: UrlStorage, name: str, file: Any) -> None:
        self._storage, self._name, self._file = storage, name, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._storage._told(self._name):
            data: bytes = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._storage._told(self._name):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _info(folder: str, entry: dict[str, Any]) -> FileInfo:
    """An entry of fsspec's listing; its filesystems have three names and two types for the time."""
    times = (entry.get(key) for key in ("mtime", "LastModified", "last_modified", "created"))
    when = next((time for time in times if time is not None), 0)
    seconds = when.timestamp() if isinstance(when, datetime) else float(when)
    name = str(entry["name"]).rsplit("/", 1)[-1]
    return FileInfo(f"{folder}/{name}", int(entry["size"]), int(seconds * 1e9))


def _words(error: BaseException) -> str:
    said = without_secrets(" ".join(why(error).split()))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
