"""Attacks by names: paths that lead out, and links. What is outside stays as it is."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import command

import pathtrain
from pathprep.errors import PathprepError
from pathprep.storage.seals import sealed
from pathtrain.runs import checkpoint, milestones

pytestmark = pytest.mark.chaos  # whole commands, a minute or two
WAYS_OUT = ("../../outside/victim", "ABSOLUTE")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside what is attacked; not a byte of it may change, and nothing may be added."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("victim", "victim.json", "victim.tar", "victim.pt", "slides.parquet"):
        (folder / name).write_bytes(b"precious")
    yield folder
    left = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert left == dict.fromkeys(
        ("victim", "victim.json", "victim.tar", "victim.pt", "slides.parquet"), b"precious"
    )


@pytest.fixture
def copy(gallery: Path, tmp_path: Path) -> Any:
    """Called with a scope: a copy of that folder of the gallery, two levels down."""

    def make(scope: str) -> Path:
        return Path(shutil.copytree(gallery / scope, tmp_path / "in" / scope))

    return make


def change(path: Path, **values: Any) -> None:
    """Change values of a JSON file, and seal it again if it was sealed."""
    found = json.loads(path.read_bytes()) | values
    path.write_text(json.dumps(sealed(found) if "seal" in found else found))


def out_of(way: str, outside: Path) -> str:
    """A name that leads to the victim."""
    return str(outside / "victim") if way == "ABSOLUTE" else way


def fine(done: Any) -> None:
    """No traceback, and an exit code of ours."""
    assert done.code in (0, 1, 2), done
    assert "Traceback" not in done.words


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("seal", [False, True])
def test_a_quarantine_file_deletes_nothing_outside(
    copy: Any, gallery: Path, outside: Path, way: str, seal: bool
) -> None:
    root = copy("imported")
    values = json.loads((root / "failed" / "tiles-00000.json").read_bytes())
    values |= {"slide": "zzz", "files": {out_of(way, outside): {"size": 1, "sha256": ""}}}
    values.pop("seal", None)
    (root / "failed" / "zzz.json").write_text(json.dumps(sealed(values) if seal else values))
    fine(
        command(
            "pathprep",
            "import-tiles",
            gallery / "tiles",
            "--out",
            root,
            "--tiles-per-shard",
            6,
            "--workers",
            1,
        )
    )
    fine(command("pathprep", "verify", root))


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("words", [("verify",), ("report",), ("mix",)])
def test_a_marker_that_names_what_is_outside(
    copy: Any, outside: Path, tmp_path: Path, way: str, words: Any
) -> None:
    root = copy("dataset")
    marker = root / "slides" / "synth-000.json"
    files = json.loads(marker.read_bytes())["files"]
    change(marker, files=files | {out_of(way, outside): {"size": 8, "sha256": "0" * 64}})
    more = ("--out", tmp_path / "mix") if words == ("mix",) else ()
    done = command("pathprep", *words, root, *more)
    fine(done)
    if words == ("verify",):
        assert done.code == 1
        assert "synth-000" in done.words


def test_a_marker_whose_file_is_a_pipe_outside_is_not_read(copy: Any, outside: Path, tmp_path: Path) -> None:
    """A read would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    root = copy("dataset")
    marker = root / "slides" / "synth-000.json"
    files = json.loads(marker.read_bytes())["files"]
    change(marker, files=files | {str(tmp_path / "pipe"): {"size": 0, "sha256": "0" * 64}})
    assert command("pathprep", "verify", root, seconds=20).code == 1


@pytest.mark.parametrize(
    "way", ["../../outside/victim", "../outside/evil", "a/../../../outside/evil", "a\nb", ".."]
)
def test_names_of_slides_lead_nowhere(
    copy: Any, gallery: Path, outside: Path, tmp_path: Path, way: str
) -> None:
    root = copy("dataset")
    change(root / "slides" / "synth-000.json", slide=way, own_name=way, slide_id=way)
    fine(command("pathtrain", "embed", gallery / "model", root, "--out", tmp_path / "in" / "features"))
    fine(command("pathprep", "mix", root, "--out", tmp_path / "in" / "mix"))
    fine(command("pathprep", "report", root))
    made = {path.parent.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert made <= {"in", "outside"}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_mixed_shards_that_name_what_is_outside(copy: Any, gallery: Path, outside: Path, way: str) -> None:
    root = copy("mixed")
    shards = json.loads((root / "mixed.json").read_bytes())["shards"]
    name = out_of(way, outside)
    shards[0] |= {
        "shard": name,
        "files": {f"shards/{name}.tar": {"size": 8, "sha256": "0" * 64}, name: {"size": 8, "sha256": ""}},
    }
    change(root / "mixed.json", shards=shards)
    fine(command("pathprep", "verify", root))
    fine(command("pathprep", "mix", gallery / "dataset", "--out", root, "--tiles-per-shard", 20))


@pytest.mark.parametrize("name", ["../../outside/victim", "ABSOLUTE"])
def test_labels_do_not_lead_out_of_a_set(gallery: Path, tmp_path: Path, outside: Path, name: str) -> None:
    source = Path(shutil.copytree(gallery / "tiles" / "grade one", tmp_path / "in" / "set"))
    secret = tmp_path / "secret.png"
    shutil.copy(source / "0.png", secret)
    named = str(secret) if name == "ABSOLUTE" else "../../secret.png"
    (source / "labels.csv").write_text(f"file,label\n0.png,a\n1.png,b\n{named},a\n")
    done = command("pathprep", "import-tiles", source, "--out", tmp_path / "out", "--workers", 1)
    fine(done)
    assert done.code != 0
    assert name in done.words or "secret.png" in done.words


def test_accounts_of_checkpoints_name_files_beside_them_only(
    copy: Any, outside: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy("run")
    for step in ("00000002", "00000004"):
        change(run / "checkpoints" / f"{step}.json", file="../../../outside/victim.pt")
    with pytest.raises(PathprepError):
        pathtrain.load(run)
    assert "00000002.json is damaged" in caplog.text
    assert "00000004.json is damaged" in caplog.text
    checkpoint.save(run, {"step": 6}, 6, "config", keep=1)  # which removes older ones


def test_links_among_kept_encoders_are_not_followed(copy: Any, outside: Path) -> None:
    run = copy("run")
    (run / "encoders" / "step-0000009").symlink_to(outside)
    (run / "encoders" / ".export-old~x").symlink_to(outside)
    milestones.forget(run, 0)


@pytest.mark.parametrize(
    "name", [".lock", "dataset/.lock", "dataset/shards/.tmp-x~1.0~a.tar", "dataset/report.html"]
)
def test_links_in_a_dataset_are_not_written_through(
    copy: Any, gallery: Path, outside: Path, name: str
) -> None:
    root = copy("dataset")
    link = root.parent / name
    link.unlink(missing_ok=True)
    link.symlink_to(outside / "victim")
    fine(
        command(
            "pathprep",
            "shard",
            gallery / "slides" / "synth-000.tif",
            "--out",
            root,
            "--tile",
            64,
            "--workers",
            1,
        )
    )
    fine(command("pathprep", "report", root))
    fine(command("pathprep", "verify", root))


@pytest.mark.parametrize("link", [False, True])
def test_an_export_replaces_nothing_that_is_not_one(
    gallery: Path, outside: Path, tmp_path: Path, link: bool
) -> None:
    out = outside
    if link:
        out = tmp_path / "model"
        out.symlink_to(outside)
    done = command("pathtrain", "export", gallery / "run", "--out", out)
    fine(done)
    assert done.code != 0


def test_the_mapped_index_stays_in_its_folder(copy: Any, outside: Path, gallery: Path) -> None:
    from corruption.kinds import read_mapped

    root = copy("mapped")
    before = read_mapped(gallery / "mapped")
    change(root / "tiles" / "current.json", key="../../../outside")
    (root / "tiles" / ("0" * 16)).symlink_to(outside)
    assert read_mapped(root) == before
    shutil.rmtree(root / "tiles" / json.loads((root / "tiles" / "current.json").read_bytes())["key"])
    assert read_mapped(root) == before


def test_folders_that_lead_round_in_circles_are_walked_once(gallery: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(gallery / "tiles", tmp_path / "set"))
    (source / "grade one" / "again").symlink_to(source)
    (source / "grade two" / "itself").symlink_to("itself")
    done = command("pathprep", "import-tiles", source, "--out", tmp_path / "out", "--workers", 1)
    fine(done)
    assert "12" in done.out
    slides = Path(shutil.copytree(gallery / "slides", tmp_path / "slides"))
    (slides / "again").symlink_to(slides)
    done = command("pathprep", "inspect", slides, "--json")
    fine(done)
    assert len([line for line in done.out.splitlines() if "synth-000.tif" in line and "again" in line]) == 0
