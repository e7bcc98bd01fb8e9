"""verify where the disk does not give a file: a finding that names it, and all others are checked."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.mixing import write

from pathprep.dataset.verify import Findings
from pathprep.errors import DatasetError, PathprepError, explain_os_error
from pathprep.folders import verify
from pathprep.mixed.make import mix
from pathprep.storage import regular
from pathprep.storage.local import LocalStorage
from pathprep.storage.url import UrlStorage

DATASET = [
    *("shards/a.tar", "shards/a.idx", "index/a.parquet", "slides/a.json", "failed/c.json"),
    *("slides", "shards"),
]
MIXED = ["shards/mixed-000000.tar", "shards/mixed-000000.idx", "index/mixed-000000.parquet", "shards"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(tmp_path_factory.mktemp("unreadable"), {"a": 40, "b": 3})
    (root / "failed/c.json").write_text("{}")
    return root


@pytest.fixture(scope="module")
def mixed_root(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mixed")
    mix([root], out, tiles_per_shard=30)
    return out


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reading one file, or listing one folder, fails: at once, or only behind its first bytes."""

    def fail(name: str, code: int, after: int = 0) -> None:
        opened, listed = regular.descriptor_of, os.scandir

        def open_file(path: Path) -> int:
            if str(path).endswith(f"/{name}") and not after:
                raise OSError(code, os.strerror(code), str(path))
            return opened(path)

        def list_folder(path: Any = ".") -> Any:
            if str(path).endswith(f"/{name}"):
                raise OSError(code, os.strerror(code), str(path))
            return listed(path)

        def read(file: Any, buffer: Any) -> int:
            if str(file._path).endswith(f"/{name}") and file.tell() >= after:
                raise OSError(code, os.strerror(code), str(file._path))
            return real(file, buffer)

        real = regular._Named.readinto
        monkeypatch.setattr(regular, "descriptor_of", open_file)
        monkeypatch.setattr("pathprep.storage.local.descriptor_of", open_file)
        monkeypatch.setattr("pathprep.storage.local.os.scandir", list_folder)
        if after:
            monkeypatch.setattr(regular._Named, "readinto", read)

    return fail


def lines(found: list[Findings]) -> list[str]:
    return [line for each in found for line in (*each.problems, *each.tiles)]


@pytest.mark.parametrize("name", DATASET)
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_dataset(root: Path, failing: Any, name: str, code: int) -> None:
    failing(name, code)
    if name == "slides":  # without the markers nothing is known
        with pytest.raises(DatasetError, match=f"slides: cannot be listed .{os.strerror(code)}"):
            list(verify(root))
        return
    found = list(verify(root))
    named = [line for line in lines(found) if line.startswith(f"{name}: cannot be read")]
    assert len(named) == 1, lines(found)
    assert os.strerror(code) in named[0]
    assert not any("write" in line for line in named)
    if code == errno.EACCES:
        assert "have the right to read it given to you" in named[0]
    assert next(each.checked for each in found if each.slide == "b") == 3
    assert found[-1].slide == "(folder)"


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_mixed_shards(mixed_root: Path, failing: Any, name: str, code: int) -> None:
    failing(name, code)
    found = list(verify(mixed_root))
    named = [line for line in lines(found) if line.startswith(f"{name}: cannot be read")]
    assert len(named) == 1, lines(found)
    assert next(each.checked for each in found if each.slide == "mixed-000001") > 0


def test_a_tar_that_fails_half_way(root: Path, failing: Any) -> None:
    failing("shards/a.tar", errno.EIO, after=4096)
    found = {each.slide: each for each in verify(root)}
    assert [
        line for line in found["a"].problems if "shards/a.tar: cannot be read (Input/output error)" in line
    ]
    assert not found["b"].problems


def test_a_pipe_in_place_of_a_file_is_not_waited_for(root: Path) -> None:
    path = root / "shards/b.tar"
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    try:
        found = {each.slide: each for each in verify(root)}
        assert any("shards/b.tar" in line for line in found["b"].problems)
        with pytest.raises(OSError, match="is a pipe, not a file"):
            LocalStorage(root).read("shards/b.tar")
    finally:
        path.unlink()
        path.write_bytes(data)


def test_a_url(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a backend raises, at once or while a file is read."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(f"{root}/", "/unreadable/", recursive=True)
    real = type(memory).cat_file, type(memory).open

    class Dying:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def read(self, size: int = -1) -> bytes:
            raise ConnectionError("reset by peer")

    def opened(fs: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        file = real[1](fs, path, *args, **kwargs)
        return Dying(file) if path.endswith("a.tar") else file

    monkeypatch.setattr(type(memory), "open", opened)
    found = {each.slide: each for each in verify("memory://unreadable")}
    assert any(
        "shards/a.tar: cannot be read" in line and "reset by peer" in line for line in found["a"].problems
    )
    assert not found["b"].problems
    with (
        pytest.raises(PathprepError, match="reset by peer"),
        UrlStorage("memory://unreadable").stream("shards/a.tar") as file,
    ):
        file.read()


def test_an_error_of_reading_names_the_file_and_no_right_to_write(root: Path, failing: Any) -> None:
    failing("index/a.parquet", errno.EACCES)
    with pytest.raises(OSError, match="Permission denied") as caught:
        LocalStorage(root).read("index/a.parquet")
    said = explain_os_error(caught.value, reading=True)
    assert said.startswith(f"{root}/index/a.parquet: Permission denied")
    assert "right to write" not in said
