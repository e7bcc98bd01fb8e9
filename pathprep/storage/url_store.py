"""Files at a URL, on any filesystem that fsspec knows, with errors that say what to do.

Object stores put a whole object or none; on other filesystems a file is uploaded under a temporary name and
moved.
"""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pathprep.dataset import marker as markers
from pathprep.errors import FULL_DISK, DatasetError, StoreError, UsageError
from pathprep.storage import atomic

# A put makes the object at once and whole, or not at all; a move would be a second copy
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos", "bos"}
EXTRAS = {"s3": "pathprep[s3]", "s3a": "pathprep[s3]"}
# Without them no request can succeed, and the libraries have errors of their own for it
_CREDENTIALS = ("credential", "token", "auth")


@dataclass(frozen=True)
class Store:
    """Files under one URL; names are relative to it, as in ``slides/a.json``.

    Raises, besides what is said below:
        DatasetError: no request can succeed: no such bucket, access denied, no credentials.
        StoreError: this one did not, after the filesystem's own retries.
        OSError: a disk is full.
    """

    url: str

    @classmethod
    def of(cls, url: str) -> "Store":
        """The store of a URL that a user gave.

        Raises:
            UsageError: fsspec does not know the URL, or the library for it is not installed.
        """
        protocol, _, path = url.partition("://")
        if protocol == "memory" or "::" in url:
            raise UsageError(f"{url}: worker processes on this and other machines cannot write there")
        if not path.strip("/"):
            raise UsageError(f"{url}: names no bucket or folder; give one, as in s3://bucket/folder")
        store = cls(url.rstrip("/"))
        try:
            _ = store._place
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            fix = f"install with the extra s3: pip install '{extra}'" if extra else "install it with pip"
            raise UsageError(
                f"{url}: the library for {protocol}:// is not installed ({error}); {fix}"
            ) from None
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from None
        except Exception as error:  # sftp:// and others connect at once
            raise UsageError(f"{url}: cannot be opened ({_words(error)})") from None
        return store

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # a connection stays in its process

    @cached_property
    def _place(self) -> tuple[Any, str]:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(self.url)
        return filesystem, path.rstrip("/")

    @property
    def _has_objects(self) -> bool:
        return self.url.partition("://")[0] in OBJECT_STORES

    def _path(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """The errors of any backend as ours; FileNotFoundError stays."""
        try:
            yield
        except (FileNotFoundError, DatasetError, StoreError):
            raise
        except PermissionError as error:
            raise DatasetError(
                f"{self.url}/{name}: access denied ({_words(error)}); check the credentials, and that they "
                "may list, read, write and delete there"
            ) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise
            if any(word in type(error).__name__.lower() for word in _CREDENTIALS):
                raise DatasetError(f"{self.url}: no valid credentials ({_words(error)})") from None
            raise StoreError(
                f"{self.url}/{name}: {_words(error)}; the same command goes on from here"
            ) from None

    def read(self, name: str) -> bytes | None:
        """A small file's bytes; None if it is absent."""
        filesystem, path = self._place[0], self._path(name)
        with self._told(name):
            filesystem.invalidate_cache()
            try:
                data: bytes = filesystem.cat_file(path)
            except FileNotFoundError:
                return None
            return data

    def read_json(self, name: str) -> dict[str, Any] | None:
        """As read_json: None if it is absent or not JSON."""
        return _parsed(self.read(name))

    def read_sealed(self, name: str) -> markers.Marker | None:
        """As markers.read_sealed."""
        return markers.unsealed(self.read_json(name))

    def size(self, name: str) -> int:
        """Bytes of a file; -1 if it is absent."""
        filesystem, path = self._place[0], self._path(name)
        with self._told(name):
            filesystem.invalidate_cache()
            try:
                return int(filesystem.info(path)["size"])
            except FileNotFoundError:
                return -1

    def sizes(self, folder: str) -> dict[str, int]:
        """Name -> bytes of all files right in a folder; empty if it is absent."""
        filesystem, path = self._place[0], self._path(folder)
        with self._told(folder):
            filesystem.invalidate_cache()
            try:
                entries = filesystem.ls(path, detail=True)
            except FileNotFoundError:
                return {}
            finally:
                filesystem.invalidate_cache()
        files = (entry for entry in entries if entry["type"] == "file")
        return {f"{folder}/{entry['name'].rsplit('/', 1)[-1]}": int(entry["size"]) for entry in files}

    def put(self, local: Path, name: str) -> None:
        """Upload a file: afterwards it is there whole, or as it was before if this fails."""
        filesystem, path = self._place[0], self._path(name)
        with self._told(name):
            try:
                if self._has_objects:
                    filesystem.put_file(str(local), path)
                    return
                folder, _, last = path.rpartition("/")
                filesystem.makedirs(folder, exist_ok=True)
                temporary = f"{folder}/{atomic.PREFIX}{secrets.token_hex(8)}~{last}"
                try:
                    filesystem.put_file(str(local), temporary)
                    filesystem.mv(temporary, path)
                except BaseException:
                    with suppress(Exception):
                        filesystem.rm_file(temporary)
                    raise
            except FileNotFoundError as error:
                if not local.exists():
                    raise StoreError(f"{local}: removed from --scratch while it was in use") from None
                raise DatasetError(
                    f"{self.url}: cannot be written ({_words(error)}); make the bucket first"
                ) from None

    def remove(self, name: str) -> None:
        """Remove a file; one that is absent is no error."""
        filesystem, path = self._place[0], self._path(name)
        with self._told(name), suppress(FileNotFoundError):
            filesystem.rm_file(path)

    def sweep(self, names: list[str]) -> None:
        """Remove those temporary files among ``names`` that a killed run left behind some hours ago."""
        filesystem = self._place[0]
        for name in names:
            if name.rpartition("/")[2].startswith(atomic.PREFIX):
                with self._told(name), suppress(FileNotFoundError):
                    if time.time() - filesystem.modified(self._path(name)).timestamp() > atomic.FOREIGN_AGE_S:
                        filesystem.rm_file(self._path(name))

    def standing(self, slide: str, build: str, inputs: dict[str, Any]) -> markers.Marker | None:
        """The marker of a slide that is done at this moment, as markers.committed."""
        marker = self.read_sealed(f"slides/{slide}.json")
        return marker if markers.vouches(marker, build, inputs, self.size) else None


def _parsed(data: bytes | None) -> dict[str, Any] | None:
    try:
        value = None if data is None else json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _words(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
