"""DICOM slides: told by their headers, one for a series, whatever its files are called and where they lie."""

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_headers import BIG_ENDIAN, EXPLICIT, IMPLICIT, write_dicom

from pathprep.errors import UnreadableSlide, UsageError
from pathprep.sharding.names import with_names
from pathprep.slides import dicom
from pathprep.slides.find import find, look
from pathprep.slides.slide import Slide

CT = "1.2.840.10008.5.1.4.1.1.2"


def slide(folder: Path, series: str = "1.2.3", names: tuple[str, ...] = ("c.dcm", "b.dcm", "a.dcm")) -> None:
    for number, name in enumerate(names):
        write_dicom(folder / name, series, f"{series}.{number}", side=1024 >> number)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_headers_are_read_in_both_encodings(tmp_path: Path, syntax: str) -> None:
    path = write_dicom(tmp_path / "a", "1.2.3", "1.2.3.4", kind="LABEL", side=300, syntax=syntax)
    assert dicom.read_header(path) == dicom.DicomFile(path, "1.2.3", "1.2.3.4", "LABEL", 90_000, True)


def test_what_is_no_header(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "a", "1.2.3", "1.2.3.4").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(300):  # cut off, or with bytes that are not those that were written
        data = bytearray(whole[: rng.integers(0, len(whole))])
        for at in rng.integers(132, max(133, len(data)), 3) if number % 2 else ():
            if at < len(data):
                data[at] = rng.integers(256)
        (tmp_path / "b").write_bytes(data)
        dicom.read_header(tmp_path / "b")  # anything, but no exception
    assert dicom.read_header(write_dicom(tmp_path / "c", "1.2", "1.3", syntax=BIG_ENDIAN)) is None
    assert dicom.read_header(tmp_path / "absent") is None


def test_a_slide_is_its_series(tmp_path: Path) -> None:
    slide(tmp_path / "x")
    slide(tmp_path / "x", "1.9", ("IM1", "IM2"))  # as archives export them, without an ending
    write_dicom(tmp_path / "x" / "0-label.dcm", "1.2.3", "1.2.3.8", kind="LABEL", side=2000)
    write_dicom(tmp_path / "x" / "ct.dcm", "1.7", "1.7.1", sop_class=CT)
    (tmp_path / "x" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = look([tmp_path])
    assert [(s.path.name, s.own_name) for s in found.slides] == [("IM1", "1.9"), ("c.dcm", "1.2.3")]
    kinds = {(kind, reason): count for (kind, reason, _), (count, _) in found.left.files.items()}
    assert kinds == {
        ("DICOM", "further files of slides that are taken"): 4,
        ("DICOM", "of another kind than slides: annotations, other images"): 1,
        ("DICOMDIR", "a list of DICOM files"): 1,
    }
    # any of its files stands for it
    assert find([tmp_path / "x" / "a.dcm", tmp_path / "x" / "0-label.dcm"]) == [found.slides[1]]


def test_name_and_inputs_stay_when_label_and_overview_come_or_go(tmp_path: Path) -> None:
    slide(tmp_path)
    (before,) = find([tmp_path])
    inputs = before.inputs()
    for name, kind in (("0.dcm", "LABEL"), ("z.dcm", "OVERVIEW")):
        write_dicom(tmp_path / name, "1.2.3", f"1.2.3.{kind}", kind=kind, side=4000)
    (after,) = find([tmp_path])
    assert after == before
    assert after.inputs() == inputs
    for number, name in enumerate(("a.dcm", "b.dcm", "c.dcm")):  # renamed, so that another sorts first
        (tmp_path / name).rename(tmp_path / f"{9 - number}.dcm")
    (renamed,) = find([tmp_path])
    assert renamed.own_name == before.own_name
    assert renamed.inputs() == inputs
    (tmp_path / "9.dcm").unlink()  # a level is gone: the same slide, to be made again
    (less,) = find([tmp_path])
    assert less.own_name == before.own_name
    assert less.inputs() != inputs


def test_files_in_several_folders(tmp_path: Path) -> None:
    slide(tmp_path / "a")
    slide(tmp_path / "b")  # a copy
    write_dicom(tmp_path / "c" / "x", "1.2.3", "1.2.3.9", side=2)
    found = look([tmp_path])
    assert [s.path for s in found.slides] == [tmp_path / "a" / "c.dcm"]
    assert {(r.path.parent.name, r.of.parent.name) for r in found.repeats} == {("b", "a")}
    assert "put its files into one folder" in str(found.left)
    # named one by one they are one slide, too
    both = find([tmp_path / "a" / "c.dcm", tmp_path / "b" / "c.dcm"])
    named = with_names(both, tmp_path / "out")
    assert [s.name for s in named.slides] == ["1_2_3"]
    assert [r.path for r in named.repeats] == [tmp_path / "b" / "c.dcm"]


def test_what_cannot_be_told_fails_as_a_slide(tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"x")
    assert [s.path.name for s in find([tmp_path])] == ["broken.dcm"]
    (tmp_path / "broken.dcm").unlink()
    write_dicom(tmp_path / "label.dcm", "1.2.3", "1.2.3.8", kind="LABEL")
    with pytest.raises(
        UsageError, match=r"no slides in this folder.*label or overview of a slide that is not"
    ):
        find([tmp_path])


def test_each_file_is_opened_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        slide(tmp_path, f"1.{number}", tuple(f"{number}-{level}.dcm" for level in range(3)))
    opened: list[Path] = []
    plain = dicom.read_header
    monkeypatch.setattr(dicom, "read_header", lambda path: (opened.append(path), plain(path))[1])
    assert len(find([tmp_path])) == 40
    assert len(opened) == 120
    opened.clear()
    assert len(find(sorted(tmp_path.iterdir()))) == 40  # as a shell lists them
    assert len(opened) == 240


@pytest.mark.realdata
def test_a_compression_that_is_not_read_is_no_damaged_file(data: Path) -> None:
    with pytest.raises(UnreadableSlide, match="convert it to JPEG or JPEG 2000"):
        Slide(data / "formats" / "real" / "sm_image_jpegls.dcm")
