"""An audit finds what identifies in all that the project writes, and nothing where there are pseudonyms."""

import io
import json
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import hospital
from PIL import Image, PngImagePlugin

import pathprep
from pathprep.auditing.audit import LINK, NAMES, UNREADABLE, audit
from pathprep.errors import UsageError
from pathprep.pseudonyms import signs
from pathprep.pseudonyms.signs import DATE, HOST, MAIL, NUMBER, PATH, PERSON, UID, USER


def shard(tmp_path: Path, out: str, key: Path | None) -> Path:
    folder = tmp_path / hospital.FOLDERS[0]
    folder = folder / hospital.FOLDERS[1] if folder.exists() else hospital.slides(tmp_path)
    (folder / "broken-4711.tif").write_bytes(b"II*\0 broken")
    pathprep.shard(folder, tmp_path / out, tile=64, workers=1, forecast=False, pseudonymise=key)
    pathprep.report(tmp_path / out)
    return tmp_path / out


def test_ordinary_dataset_and_its_mix_are_told_and_pseudonymised_ones_are_clean(tmp_path: Path) -> None:
    plain, named = shard(tmp_path, "plain", None), shard(tmp_path, "named", tmp_path / "study.key")
    found = {(each.what, Path(each.file).parent.name) for each in audit(plain).found}
    assert {
        (PATH, "slides"),
        (PATH, "failed"),
        (NAMES, "slides"),
        (NUMBER, "shards"),
        (NUMBER, "index"),
    } <= found
    assert {(PERSON, "slides"), (PERSON, "shards"), (NUMBER, "previews")} <= found
    pathprep.mix([plain], tmp_path / "plain-mix")
    assert {each.what for each in audit(tmp_path / "plain-mix").found} >= {PATH, NUMBER, PERSON}
    seen = audit(named, sample=0)
    assert (seen.kind, seen.pseudonymised, seen.found) == ("dataset", True, [])
    assert seen.looked == seen.pictures > 10
    pathprep.mix([named], tmp_path / "named-mix")
    assert audit(tmp_path / "named-mix").found == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("S19-01234", NUMBER), ("H2021_004711", NUMBER), ("00815123", NUMBER), ("E 19.1234", NUMBER),
        ("2019-03-02_A", DATE), ("A 02.03.2019", DATE), ("20190302", DATE),
        ("1.2.840.113619.2.5.1762583153", UID), ("Müller_Hans", PERSON), ("Meier, Anna", PERSON),
        ("a.meier@clinic.example", MAIL),
    ],
)  # fmt: skip
def test_names_that_tell(name: str, what: str) -> None:
    assert [sign.what for sign in signs.of_name(name)] == [what]


@pytest.mark.parametrize(
    "name", ["A", "slide_12", "s222222345672", "sabcdefghijkl_mpp0-5", "synth-000", "tumour"]
)
def test_names_that_tell_nothing(name: str) -> None:
    assert signs.of_name(name) == []


@pytest.mark.parametrize(
    "text",
    ["/home/meier/slides", "(/mnt/pacs/a.svs)", "at '/data/x/y'", r"C:\Users\Meier\a.svs", "file:///x/y"],
)
def test_paths_are_told(text: str) -> None:
    assert PATH in [sign.what for sign in signs.in_text(text)]


@pytest.mark.parametrize(
    "text", ["</a></b>", "km/h or px/um", "https://a.example/b/c", "../a/b", "10/20/30", "//"]
)
def test_what_is_no_path_is_not(text: str) -> None:
    assert list(signs.in_text(text)) == []


def test_machine_and_user_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pacs07.clinic")
    monkeypatch.setenv("LOGNAME", "hmeier")
    (tmp_path / "run.json").write_text(
        json.dumps({"a": "made on PACS07", "b": "by hmeier", "c": "process 1 on x9"})
    )
    found = audit(tmp_path)
    assert found.kind == "run"
    assert {(each.what, each.example) for each in found.found} == {(HOST, "PACS07"), (USER, "hmeier")}


def _jpeg(**more: object) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "JPEG", **more)
    return data.getvalue()


def test_metadata_of_pictures_in_tars_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Hans Mueller 4711"
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x>Meier</x>"
    xmp_jpeg = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + _jpeg()[2:]
    cases = {"EXIF": _jpeg(exif=exif), "a comment": _jpeg(comment=b"Mueller"), "XMP": xmp_jpeg}
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", "Mueller")
    png = io.BytesIO()
    Image.new("RGB", (16, 16)).save(png, "PNG", pnginfo=text)
    for what, data in {**cases, "a text": png.getvalue()}.items():
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for number in range(10):
                info = tarfile.TarInfo(f"a__{number}_0.jpg")
                content = data if number == 7 else _jpeg()
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        (found,) = audit(tmp_path / "a.tar").found
        assert found.what == f"{what} in a picture"
        assert "Me" in found.example or "Mueller" in found.example
    sampled = audit(tmp_path / "a.tar", sample=2)
    assert (sampled.looked, sampled.pictures) == (2, 10)


def test_containers_are_looked_into_and_pickles_never_loaded(tmp_path: Path) -> None:
    word = "/home/meier/slides"

    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran; ls {word}",)

    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"from": Code()}))
    header = json.dumps({"__metadata__": {"from": word}}).encode()
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    table = pa.table({"group": ["Mueller_Hans"] * 2, "label": ["2019-03-02", "x"]})
    pq.write_table(table.replace_schema_metadata({"made": word}), tmp_path / "c.parquet", compression="zstd")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.attrs["model"] = json.dumps({"path": word})
        file.create_dataset("groups", data=["S19-01234"], compression="gzip")
    (tmp_path / "e.bin").write_bytes(b"\0\1" + word.encode() + b"\0")
    (tmp_path / "events.out.tfevents.1700000000.pacs07.12.0").write_bytes(b"")
    found = {(each.file.split(".")[0], each.what) for each in audit(tmp_path).found}
    assert {(name, PATH) for name in "abcde"} | {("c", PERSON), ("d", NUMBER), ("events", HOST)} <= found
    assert ("c", f"{DATE} as a label") in found
    assert not (tmp_path / "ran").exists()


def test_damaged_files_are_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    for name in ("a.json", "b.parquet", "c.h5", "d.safetensors", "e.tar"):
        (tmp_path / name).write_bytes(b"\xff{")
    (tmp_path / "z.txt").write_text("/home/meier/slides")
    found = audit(tmp_path).found
    assert [(each.what, each.files) for each in found] == [(UNREADABLE, 1)] * 5 + [(PATH, 1)]


def test_what_is_not_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset whose shards lie on another disk is not clean because nobody looked there."""
    there, root = tmp_path / "disk", tmp_path / "dataset"
    for folder in (there, root, root / "closed"):
        folder.mkdir()
    (there / "a.txt").write_text("/home/meier/slides")
    (root / "shards").symlink_to(there)
    (root / "b.txt").symlink_to(there / "a.txt")
    scan = os.scandir

    def scandir(path: str | Path) -> Any:
        if str(path) == str(root / "closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = {(each.file, each.what) for each in audit(root).found}
    assert found == {("b.txt", LINK), ("closed", UNREADABLE), ("shards", LINK)}
    assert audit(root / "shards").found[0].what == PATH  # which is named itself


def test_a_chunk_of_no_bytes_does_not_end_the_process(tmp_path: Path) -> None:
    """Nor hide what the other files tell."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        names = np.array([b"S19-0123"] * 4)
        stored = file.create_dataset("groups", data=names, chunks=(2,), fletcher32=True)
        sizes = struct.pack("<IIQ", stored.id.get_chunk_info(0).size, 0, 2)  # as the index has the second
    raw = (tmp_path / "a.h5").read_bytes()
    assert raw.count(sizes) == 1
    (tmp_path / "a.h5").write_bytes(raw.replace(sizes, bytes(4) + sizes[4:]))
    (tmp_path / "b.txt").write_text("/home/meier/slides")
    assert [(each.file, each.what) for each in audit(tmp_path).found] == [
        ("a.h5", UNREADABLE),
        ("b.txt", PATH),
    ]


def test_wrong_usage(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a pipe, not a file or folder"):
        audit(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no such file or folder"):
        audit(tmp_path / "absent")
    with pytest.raises(UsageError, match="only local folders"):
        audit("s3://bucket/x")


def test_pixels_that_look_like_a_short_path_or_mail_are_chance(tmp_path: Path) -> None:
    pixels = b"\x00\xff C:\\Nx9 \x00 a@b.cd ~ /aQ/x7 \xfe"
    (tmp_path / "slide.bin").write_bytes(pixels)
    assert audit(tmp_path).found == []
    (tmp_path / "slide.bin").write_bytes(pixels + b"/home/meier/slides\0h.meier@klinik.de\0")
    assert {each.what for each in audit(tmp_path).found} == {PATH, MAIL}
