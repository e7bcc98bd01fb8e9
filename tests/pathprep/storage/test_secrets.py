"""Passwords in URLs get there, and nowhere else."""

import pickle
from pathlib import Path, PurePosixPath
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pathprep.errors import PathprepError
from pathprep.storage.base import Url
from pathprep.storage.place import storage_at
from pathprep.storage.secrets import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://me:hunter2@host/bucket", "s3://me:***@host/bucket"),
        ("s3:/me:hunter2@host/bucket", "s3:/me:***@host/bucket"),
        ("sftp://me:hun/ter@2@host/a: gone", "sftp://me:***@host/a: gone"),
        ("https://hunter2@host/a", "https://***@host/a"),
        ("https://host/a?token=hunter2&x=hunter2#b", "https://host/a?token=***&x=***#b"),
        ("simplecache::https://u:hunter2@host/a", "simplecache::https://u:***@host/a"),
        ("zip://a.zip::ftp://u:hunter2@h/x 'http://v:hunter2@h'", "zip://a.zip::ftp://u:***@h/x 'http://v:***@h'"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs://container@account.dfs.core.windows.net/a"),
        ("http://host:9000/a@b", "http://host:9000/a@b"),
        ("s3://bucket/a:b", "s3://bucket/a:b"),
        ("/data/a:b@c.svs", "/data/a:b@c.svs"),
        ("mail me@host: now", "mail me@host: now"),
    ],
)  # fmt: skip
def test_what_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_url_gets_there_and_does_not_tell() -> None:
    url = Url("s3://me:hunter2@host/a")
    for each in (
        url,
        url / "b",
        Url(url),
        pickle.loads(pickle.dumps(url)),
        Url(PurePosixPath("s3://me:hunter2@host/a")),
    ):
        assert each.real.startswith("s3://me:hunter2@host/a")
        assert "hunter2" not in f"{each} {each!r} {each.as_posix()}"


class Guarded(MemoryFileSystem):
    """A store that wants a password, and complains with it."""

    protocol = "guarded"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        whole = str(path).removeprefix("guarded://").removeprefix("/")
        if whole.startswith("me:") and not whole.startswith("me:hunter2@"):
            raise ValueError(f"guarded://{whole}: wrong password")
        return "/" + whole.rpartition("@")[2].strip("/")

    def cat_file(self, path: str, **_: object) -> bytes:
        raise OSError(f"guarded://me:hunter2@host{path}: no such luck")


def test_the_real_one_is_used_and_errors_do_not_tell() -> None:
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    storage = storage_at("guarded://me:hunter2@host/set")
    storage.write("a.json", b"{}")
    assert storage.size("a.json") == 2
    assert "/host/set/a.json" in Guarded.store
    again = pickle.loads(pickle.dumps(storage))
    assert again.size("a.json") == 2
    assert storage_at(storage.root).size("a.json") == 2
    assert storage.absolute == str(storage) == "guarded://me:***@host/set"
    with pytest.raises(PathprepError, match=r"me:\*\*\*@host") as caught:
        storage.read("a.json")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(PathprepError) as caught:
        storage_at(Path("guarded://me:hunter3@host/set"))
    assert "hunter3" not in str(caught.value)
