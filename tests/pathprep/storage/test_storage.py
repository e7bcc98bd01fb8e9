"""Storage: a local folder, memory:// and S3 do the same."""

import os
import pickle
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from helpers.s3 import bucket

from pathprep.errors import UsageError
from pathprep.storage import atomic, local
from pathprep.storage.base import Storage, Url
from pathprep.storage.local import LocalStorage
from pathprep.storage.place import storage_at
from pathprep.storage.url import UrlStorage


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with bucket() as url:
        yield url


@pytest.fixture(params=["local", "memory", "file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "local":
        yield storage_at(tmp_path)
    elif request.param == "file":
        yield storage_at(f"file://{tmp_path}/new")
    elif request.param == "memory":
        yield storage_at("memory://data/set")
        fsspec.filesystem("memory").rm("/data", recursive=True)
    else:
        yield storage_at(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("a/b.txt", b"0123456789")
    storage.write("a/b.txt", b"abcdefghij")
    storage.write("a/c.json", b'{"x": 1}')
    assert storage.read("a/b.txt") == b"abcdefghij"
    assert storage.read_at("a/b.txt", 2, 3) == b"cde"
    assert storage.read_at("a/b.txt", 8, 9) == b"ij"
    assert storage.read_at("a/b.txt", 3, 0) == b""
    with storage.stream("a/b.txt") as file:
        assert (file.read(4), file.read()) == (b"abcd", b"efghij")
    assert storage.size("a/b.txt") == 10
    assert storage.read_json("a/c.json") == {"x": 1}
    assert storage.read_json("a/b.txt") is None
    assert [(info.name, info.size) for info in storage.listing("a")] == [("a/b.txt", 10), ("a/c.json", 8)]
    assert all(info.modified > 1e18 for info in storage.listing("a"))
    other = pickle.loads(pickle.dumps(storage))
    assert other.read("a/b.txt") == b"abcdefghij"
    storage.remove("a/b.txt")
    storage.remove("a/b.txt")
    assert not storage.exists("a/b.txt")


def test_what_is_absent(storage: Storage) -> None:
    storage.write("a/b.txt", b"")
    assert storage.read("a/c") is None
    assert storage.size("a/c") == -1
    assert storage.listing("d") == []
    for ask in (storage.stream, lambda name: storage.read_at(name, 0, 1)):
        with pytest.raises(FileNotFoundError) as error:
            ask("a/c")
        assert error.value.strerror == "No such file or directory"


def test_urls_are_put_together_like_paths() -> None:
    for url in (
        "s3://bucket/a",
        "memory://a/b",
        "file:///tmp/a",
        "local:///tmp/a",
        "filecache::file:///tmp/a",
        "simplecache::s3://bucket/a",
    ):
        assert str(Url(url)) == url
        assert str(Url(Path(url))) == url  # an option that is taken for a path
        assert str(Url(url) / "b" / "c.tar") == f"{url}/b/c.tar"
        assert pickle.loads(pickle.dumps(Url(url))) == Url(url)
    assert (Url("s3://bucket/a/b.tar").name, Url("s3://bucket/a/b.tar").stem) == ("b.tar", "b")


def test_which_place_is_which(tmp_path: Path) -> None:
    assert storage_at(f"file://{tmp_path}").root == tmp_path
    assert storage_at(f"local://{tmp_path}").root == storage_at(Path(f"local://{tmp_path}")).root == tmp_path
    with pytest.raises(UsageError, match=r"hdfs:///a/b: names no host; .* hdfs://default/folder"):
        storage_at("hdfs:///a/b")
    assert storage_at(str(tmp_path)).root == tmp_path
    assert storage_at(Path("memory://x/y")).root == Url("memory://x/y")
    for url, says in (("nosuch://bucket/x", "Protocol not known"), ("s3://", "names no bucket")):
        with pytest.raises(UsageError, match=says):
            storage_at(url)


def test_files_stay_open_within_the_limit_and_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "OPEN_FILES", 2)
    for number in range(10):
        (tmp_path / str(number)).write_bytes(str(number).encode() * 4)
    storage, before = LocalStorage(tmp_path), len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda number: storage.read_at(str(number % 9), 1, 2), range(900)))
    assert parts == [str(number % 9).encode() * 2 for number in range(900)]
    storage.read_at("9", 0, 1)
    assert len(os.listdir("/proc/self/fd")) - before <= 2
    storage.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_write_removes_what_a_killed_one_left_of_the_file(tmp_path: Path) -> None:
    """In folders that no run sweeps: a command's values beside its result."""
    for name in ("knn.yaml", "other.yaml"):
        (tmp_path / f"{atomic.PREFIX}{socket.gethostname()}~999999999.x.y~{name}").write_bytes(b"half")
    LocalStorage(tmp_path).write("knn.yaml", b"whole")
    assert (tmp_path / "knn.yaml").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.glob(f"{atomic.PREFIX}*")] == [
        f"{atomic.PREFIX}{socket.gethostname()}~999999999.x.y~other.yaml"
    ]


def test_a_file_whose_age_nobody_tells_stays_and_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FTP: no run could begin any more once a killed one had left a file."""
    storage = UrlStorage("memory://ages/set")
    left = f"slides/{atomic.PREFIX}0123~a.json"
    storage.write(left, b"half")
    monkeypatch.setattr(MemoryFileSystem, "modified", AbstractFileSystem.modified)
    storage.sweep([left, "slides/a.json"])
    assert f"memory://ages/set/{left}: may be in work" in caplog.text
    assert storage.read(left) == b"half"
    fsspec.filesystem("memory").rm("/ages", recursive=True)
