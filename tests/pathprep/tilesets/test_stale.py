"""Nothing is removed because a file of the dataset's folder names it."""

import json
from pathlib import Path

import pytest
from helpers.tilesets import folders, importing, sound, tile

from pathprep.dataset.reader import Dataset
from pathprep.storage.seals import write_sealed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folders(tmp_path / "set", {f"{label}/{n}.png": tile(n) for label in "xy" for n in range(4)})


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("place", ["slides", "failed"])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_marker_cannot_have_other_peoples_files_removed(
    source: Path, tmp_path: Path, place: str, sealed: bool
) -> None:
    out = tmp_path / "out"
    importing(source, out)
    victims = [tmp_path / "victim.txt", out / "mine.txt", tmp_path / "dir" / "zzz.tar", out / "command.txt"]
    for victim in victims:
        victim.parent.mkdir(exist_ok=True)
        victim.write_text("keep")
    (out / "previews" / "up").symlink_to(tmp_path)
    standing = Dataset(out).slides[0]
    names = [
        str(victims[0]),
        "../victim.txt",
        "mine.txt",
        "previews/up/victim.txt",
        "previews/zzz.up/../../mine.txt",
        f"shards/{standing}.tar",
        "shards/../mine.txt",
        "dataset.json",
    ]
    marker = json.loads((out / "slides" / f"{standing}.json").read_text())
    record = {"size": 4, "sha256": "0" * 64}
    values = {**marker, "slide": "zzz", "files": dict.fromkeys(names, record)}
    if place == "failed":
        values |= {"stage": "tiles", "kind": "images", "error": "x", "attempts": 1}
    write_sealed(out / place / "zzz.json", values)
    if not sealed:
        text = (out / place / "zzz.json").read_text()
        (out / place / "zzz.json").write_text(text.replace('"kept"', '"kepT"'))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    importing(source, out)
    assert all(victim.read_text() == "keep" for victim in victims)
    gone = {path.relative_to(out).as_posix() for path in before if not path.exists()}
    assert gone <= {f"{place}/zzz.json"}
    (out / place / "zzz.json").unlink(missing_ok=True)
    assert sound(out)


@pytest.mark.usefixtures("here")
def test_a_folder_that_leads_out_of_the_dataset_is_not_emptied(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    importing(source, out, tiles_per_shard=2)
    elsewhere = tmp_path / "elsewhere"
    (out / "previews").rename(elsewhere)
    (out / "previews").symlink_to(elsewhere)
    name = Dataset(out).slides[-1]
    (elsewhere / f"{name}.jpg").write_text("keep")
    path = out / "slides" / f"{name}.json"
    marker = json.loads(path.read_text())
    marker["files"][f"previews/{name}.jpg"] = {"size": 4, "sha256": "0" * 64}
    write_sealed(path, marker)
    for image in sorted(source.glob("*/*.png"))[2:]:
        image.unlink()  # so that the last shard is stale
    importing(source, out, tiles_per_shard=2)
    assert not path.exists()
    assert not (out / "shards" / f"{name}.tar").exists()
    assert (elsewhere / f"{name}.jpg").read_text() == "keep"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("value", [{}, [], 5, None, "\0", "x" * 5000])
def test_a_quarantine_file_may_say_anything(source: Path, tmp_path: Path, value: object) -> None:
    out = tmp_path / "out"
    importing(source, out)
    entry = {"stage": "tiles", "kind": "x", "error": "x", "attempts": 1, "slide": "zzz", "build_id": "x"}
    for source_path in (value, str(source)):
        said = {**entry, "set": "set", "split": value, "source": {"path": source_path, "size": value}}
        (out / "failed" / "zzz.json").write_text(json.dumps(said))
        importing(source, out)
        said |= {"set": value, "split": ""}
        (out / "failed" / "zzz.json").write_text(json.dumps(said))
        importing(source, out)
