"""What of a store is a slide, whichever folder or file of it the URL names; the rest is told."""

import json
from pathlib import Path

import pytest

from pathprep.errors import UsageError
from pathprep.slides.find_remote import look


def put(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return f"file://{folder}"


def test_the_url_of_an_ome_zarr_image_itself(tmp_path: Path) -> None:
    url = put(tmp_path, "deep/z.ome.zarr/.zattrs", "deep/z.ome.zarr/0/0/0", "deep/a.tif")
    (one,), left = look(f"{url}/deep/z.ome.zarr")
    assert (one.main, one.own_name, one.path) == ("z.ome.zarr", "z.ome", f"{url}/deep/z.ome.zarr")
    assert [file.name for file in one.files] == ["z.ome.zarr/.zattrs", "z.ome.zarr/0/0/0"]
    assert not left.files


def test_the_url_of_a_dicom_folder_itself_is_one_slide(tmp_path: Path) -> None:
    """Its files are the levels of one slide; each alone would be a slide of its own."""
    url = put(tmp_path, "case/1.dcm", "case/2.dcm", "case/3.DCM")
    (one,), _ = look(f"{url}/case")
    assert (one.own_name, one.path, len(one.files)) == ("case", f"{url}/case", 3)
    (same,), _ = look(f"{url}/case/2.dcm")  # as a file of it on this machine stands for the slide
    assert (same.own_name, same.files) == ("case", one.files)


def test_what_is_not_taken_is_told(tmp_path: Path) -> None:
    names = ("a.tif", "b.isyntax", "c.png", "IM0001", ".hidden/d.tif", "e.unknown")
    (_,), left = look(put(tmp_path, *names))
    said = {each["kind"]: each["notable"] for each in left.as_dict()}
    assert said == {
        ".isyntax": True,
        ".png": False,
        "without an ending": True,
        "hidden": False,
        ".unknown": False,
    }
    assert "1 .isyntax (slides of a format that is not read; convert them to TIFF or DICOM" in str(left)
    with pytest.raises(UsageError, match=r"no slides there .*1 .isyntax \(slides of a format"):
        look(put(tmp_path / "other", "b.isyntax"))
    assert json.dumps(left.as_dict())
