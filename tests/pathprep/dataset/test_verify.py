"""verify finds every kind of damage and names the tile; run again, shard mends it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.slides import tissue, write_tiff
from typer.testing import CliRunner

from pathprep.cli import app
from pathprep.dataset.failed import FailedShard, write_failed
from pathprep.dataset.marker import SourceRecord
from pathprep.dataset.reader import Dataset
from pathprep.dataset.verify import Findings
from pathprep.errors import DatasetError
from pathprep.folders import verify
from pathprep.params.shard import ShardParams
from pathprep.sharding import run
from pathprep.slides import find

PARAMS = ShardParams(tile=64, region=256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(2):
        write_tiff(folder / f"s{number}.tif", tissue(400, 500, seed=number))
    return folder


@pytest.fixture
def root(folder: Path, tmp_path: Path) -> Path:
    run.shard(find.find([folder]), tmp_path, PARAMS)
    return tmp_path


def problems(root: Path) -> dict[str, Findings]:
    return {found.slide: found for found in verify(root) if found.problems or found.tiles}


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_a_sound_dataset(root: Path) -> None:
    assert problems(root) == {}
    assert sum(found.checked for found in verify(root)) == len(Dataset(root).tiles())


def test_one_flipped_bit_names_its_tile(root: Path, folder: Path) -> None:
    row = Dataset(root).table("s0").to_pylist()[5]
    flip(root / "shards/s0.tar", row["offset"] + row["length"] // 2)
    found = problems(root)
    assert list(found) == ["s0"]
    assert [line.split(":")[0] for line in found["s0"].tiles] == [f"s0__{row['x']}_{row['y']}.jpg"]
    assert "CRC-32" in found["s0"].tiles[0]
    assert "SHA-256" in found["s0"].problems[0]
    run.shard(find.find([folder]), root, PARAMS, rebuild=True)
    assert problems(root) == {}


def truncate(root: Path) -> None:
    os.truncate(root / "shards/s0.tar", 20_000)


def rename_member(root: Path) -> None:
    flip(root / "shards/s0.tar", Dataset(root).table("s0")["offset"][3].as_py() - 512)


def append(root: Path) -> None:
    with (root / "shards/s0.tar").open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (truncate, "shards/s0.tar: 20000 bytes"),
        (append, "shards/s0.tar: does not end after the last tile"),
        (lambda root: (root / "shards/s0.tar").unlink(), "shards/s0.tar: No such file"),
        (lambda root: (root / "shards/s0.idx").write_text("v1.2 0\n"), "s0.idx: differs from the index"),
        (lambda root: (root / "index/s0.parquet").write_bytes(b"no"), "tiles were not checked"),
        (lambda root: (root / "previews/s0.jpg").unlink(), "previews/s0.jpg: No such file"),
        (lambda root: (root / "shards/foreign.tar").touch(), "shards/foreign.tar: belongs to no slide"),
        (lambda root: (root / "shards/.tmp-h~1~x.tar").touch(), "temporary file of a killed run"),
        (lambda root: (root / "slides/s0.json").unlink(), "shards/s0.tar: belongs to no slide"),
    ],
)
def test_every_kind_of_damage_is_found(root: Path, damage: Callable[[Path], None], expected: str) -> None:
    damage(root)
    lines = [line for found in problems(root).values() for line in found.problems]
    assert any(expected in line for line in lines), lines


@pytest.mark.parametrize("name", ["shards/notes.txt", "index/.DS_Store", "previews/s0.png", "failed/README"])
def test_a_file_that_no_reader_takes_is_a_note(root: Path, name: str) -> None:
    (root / name).write_text("mine")
    *_, folder = verify(root)
    assert (folder.problems, folder.notes) == ([], [f"{name}: not of pathprep; left as it is"])
    done = CliRunner().invoke(app, ["verify", str(root)])
    assert (done.exit_code, name in done.output) == (0, True)


def test_a_folder_of_somebody_elses_is_a_note(root: Path) -> None:
    """A snapshot of the file server, a viewer's folder: nobody is told to delete them."""
    (root / "shards" / ".snapshot").mkdir()
    (root / "index" / "s9.parquet").mkdir()
    *_, folder = verify(root)
    assert [line.partition(":")[0] for line in folder.notes] == ["shards/.snapshot"]
    assert "left as it is" in folder.notes[0]
    assert [line.partition(":")[0] for line in folder.problems] == ["index/s9.parquet"]


def test_a_folder_that_cannot_be_listed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "slides":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError, match=r"slides: cannot be listed .*; have the right to read it given"):
        list(verify(root))


def test_a_renamed_member_is_found(root: Path) -> None:
    rename_member(root)
    assert "holds no such member" in problems(root)["s0"].tiles[0]


def test_truncation_names_every_lost_tile(root: Path) -> None:
    truncate(root)
    rows = Dataset(root).table("s0").to_pylist()
    lost = [r for r in rows if r["offset"] + r["length"] > 20_000]
    assert len(problems(root)["s0"].tiles) == len(lost) > 0


def test_the_next_run_mends_missing_and_short_files(root: Path, folder: Path) -> None:
    truncate(root)
    (root / "index/s1.parquet").unlink()
    summary = run.shard(find.find([folder]), root, PARAMS)
    assert sorted(summary.markers) == ["s0", "s1"]
    assert problems(root) == {}


def test_a_damaged_quarantine_file_is_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = SourceRecord("/slides/c.tif", 10)
    write_failed(
        root / "failed" / "c.json", FailedShard("open", "SlideError", "no", 1, "c", source, "0" * 16)
    )
    assert problems(root) == {}
    assert Dataset(root).failed()["c"].error == "no"
    path = root / "failed" / "c.json"
    path.write_text(path.read_text().replace('"no"', '"so"'))
    lines = [line for found in problems(root).values() for line in found.problems]
    assert lines == ["failed/c.json: damaged; delete it, the next run writes it again if it is needed"]
    assert Dataset(root).failed() == {}
    assert f"{path}: damaged" in caplog.text
