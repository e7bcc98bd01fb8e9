"""A slide that cannot be read for once keeps its shard; one that was written to since is named."""

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.slides import tissue, write_tiff

from pathprep.dataset.reader import Dataset
from pathprep.errors import explain_os_error
from pathprep.launchers import local
from pathprep.params.shard import ShardParams
from pathprep.sharding import run
from pathprep.sharding.summary import RunSummary
from pathprep.slides import find
from pathprep.slides.readers import open_reader
from pathprep.storage import regular

PARAMS = ShardParams(tile=64, mpp=0.5)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    return write_tiff(tmp_path / "slides/a.tif", tissue(400, 400, margin=60))


def shard(slide: Path, **more: Any) -> RunSummary:
    return run.shard(find.find([slide]), slide.parent.parent / "d", PARAMS, workers=1, **more)


def refuse(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    """The system refuses to open a file, as where it may not be read or its drive is dead."""
    real = Path.open

    def broken(self: Path, *args: Any, **more: Any) -> Any:
        if self == path:
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", broken)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_slide_that_cannot_be_read_now_keeps_its_shard(
    slide: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    root = slide.parent.parent / "d"
    shard(slide)
    # forked from here, so that workers have the patch
    monkeypatch.setattr(local.server, "context", lambda: multiprocessing.get_context("fork"))
    with monkeypatch.context() as patch:
        refuse(patch, slide, number)
        summary = shard(slide)
    assert list(summary.failures) == ["a"]
    assert os.strerror(number) in summary.failures["a"].error
    assert Dataset(root).slides == ["a"]
    assert (root / "failed/a.json").exists()
    assert list(shard(slide).skipped) == ["a"]
    assert not (root / "failed/a.json").exists()


def test_what_may_not_be_read_is_said_to_be_that(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, slide, errno.EACCES)
    with pytest.raises(Exception, match=r"a\.tif: Permission denied; have the right to read it given to you"):
        open_reader(slide)


def test_a_pipe_as_a_slide_or_a_mask_is_refused_at_once(slide: Path) -> None:
    pipe = slide.with_name("b.svs")
    os.mkfifo(pipe)
    with pytest.raises(Exception, match="not a file but a pipe"):
        open_reader(pipe)
    assert find.SlideSource(pipe).measures() == (0, None)
    with pytest.raises(Exception, match="no such mask"):
        find.SlideSource(slide, mask=pipe).inputs()
    assert [each.path.name for each in find.find([slide.parent])] == ["a.tif"]


def test_advice_on_rights_is_about_what_was_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    assert "write" in explain_os_error(error)
    assert "right to read" in explain_os_error(error, reading=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as it is for who is not root
    assert "right to read" in explain_os_error(error)


def test_one_mask_that_cannot_be_read_costs_its_slide(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_tiff(slide.with_name("b.tif"), tissue(400, 400, seed=1, margin=60))
    mask = slide.parent.parent / "m.geojson"
    mask.write_text('{"type": "Polygon", "coordinates": [[[0, 0], [300, 0], [300, 300], [0, 0]]]}')
    sources = [find.SlideSource(slide, mask=mask), find.SlideSource(other)]
    root = slide.parent.parent / "d"
    assert len(run.shard(sources, root, PARAMS, workers=1).markers) == 2
    real = regular.read

    def broken(path: Path, most: int | None = None) -> bytes:
        if path == mask:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, most)

    monkeypatch.setattr(local.server, "context", lambda: multiprocessing.get_context("fork"))
    monkeypatch.setattr(regular, "read", broken)
    summary = run.shard(sources, root, PARAMS, workers=1)
    assert (list(summary.failures), list(summary.skipped)) == (["a"], ["b"])
    assert "m.geojson: Permission denied; have the right to read it" in summary.failures["a"].error
    assert Dataset(root).slides == ["a", "b"]


def test_a_slide_that_was_written_to_since_is_named_and_a_copy_is_not(slide: Path) -> None:
    assert shard(slide).touched == []
    assert shard(slide).touched == []
    state = slide.stat()
    os.utime(slide, (state.st_atime, state.st_mtime + 60))
    again = shard(slide)
    assert (list(again.skipped), again.touched, again.as_dict()["touched"]) == (["a"], ["a"], ["a"])
    assert shard(slide, rebuild=True).touched == []
    assert shard(slide).touched == []
    copy = slide.parent.parent / "copy" / "a.tif"
    copy.parent.mkdir()
    copy.write_bytes(slide.read_bytes())
    slide.unlink()
    moved = shard(copy.rename(slide.parent / "b.tif"))
    assert (list(moved.skipped), moved.touched) == (["a"], [])
