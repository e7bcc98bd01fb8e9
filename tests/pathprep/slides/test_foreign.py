"""Files that are no TIFF: pictures that are no slides, CZI and DICOM that OpenSlide would show wrongly."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.slides import tissue
from helpers.tiff_kinds import jpeg
from PIL import Image

from pathprep.errors import UnreadableSlide
from pathprep.slides.readers import dicom
from pathprep.slides.slide import Slide


@pytest.mark.parametrize(("pixels", "bits"), [(4, 16), (8, 32), (1, 16)])
def test_a_czi_of_more_than_eight_bits_is_refused(tmp_path: Path, pixels: int, bits: int) -> None:
    header = bytearray(b"ZISRAWFILE".ljust(544, b"\0"))
    header[84:92] = (544).to_bytes(8, "little")
    entry = b"DV" + pixels.to_bytes(4, "little")
    path = tmp_path / "a.czi"
    path.write_bytes(bytes(header) + b"ZISRAWDIRECTORY".ljust(160, b"\0") + entry + bytes(64))
    with pytest.raises(UnreadableSlide, match=f"{bits} bits per sample .CZI's pixel type., 8 are read"):
        Slide(path)


def element(group: int, number: int, kind: str, value: bytes) -> bytes:
    value += b" " * (len(value) % 2) if kind not in ("UL", "US", "SQ") else b""
    start = group.to_bytes(2, "little") + number.to_bytes(2, "little") + kind.encode()
    if kind == "SQ":
        return start + b"\0\0" + len(value).to_bytes(4, "little") + value
    return start + len(value).to_bytes(2, "little") + value


def item(value: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(value).to_bytes(4, "little") + value


def instance(path: Path, *, bits: int = 8, colours: str = "YBR_FULL_422", frame: bytes = b"") -> Path:
    measures = item(element(0x0028, 0x0030, "DS", b"0.0005\\0.0005"))
    groups = item(element(0x0028, 0x9110, "SQ", measures))
    path.write_bytes(
        bytes(128)
        + b"DICM"
        + element(0x0002, 0x0010, "UI", b"1.2.840.10008.1.2.4.50\0")
        + element(0x0008, 0x0008, "CS", b"ORIGINAL\\PRIMARY\\VOLUME\\NONE")
        + element(0x0020, 0x000E, "UI", b"1.2.3.4")
        + element(0x0028, 0x0004, "CS", colours.encode())
        + element(0x0028, 0x0101, "US", bits.to_bytes(2, "little"))
        + element(0x0048, 0x0006, "UL", (512).to_bytes(4, "little"))
        + element(0x0048, 0x0007, "UL", (256).to_bytes(4, "little"))
        + element(0x5200, 0x9229, "SQ", groups)
        + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
        + item(b"")
        + item(frame)
    )
    return path


def picture(rgb: bool) -> bytes:
    return jpeg(np.ascontiguousarray(tissue(64, 64)), "adobe-rgb" if rgb else "420")


def test_a_dicom_header_is_read(tmp_path: Path) -> None:
    path = instance(tmp_path / "a.dcm", frame=picture(rgb=False))
    instance(tmp_path / "b.dcm")
    (tmp_path / "c.txt").write_text("no DICOM")
    (first, _) = dicom.series(path)
    assert (first.size, first.spacing) == ((512, 256), 0.0005)
    assert first.frame.startswith(b"\xff\xd8")
    assert dicom.problem(first) == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 12}, "12 bits per sample, 8 are read"),
        ({"colours": "RGB", "frame": picture(rgb=False)}, "frames hold YCbCr .JFIF marker.*believe .*RGB"),
        ({"frame": picture(rgb=True)}, "frames hold RGB .Adobe marker.*believe .*YBR_FULL_422"),
    ],
)
def test_dicom_that_openslide_would_show_wrongly_is_refused(
    tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(UnreadableSlide, match=message):
        Slide(instance(tmp_path / "a.dcm", **options))


@pytest.mark.parametrize("cut", range(132, 400, 7))
def test_a_dicom_header_that_is_cut_off_is_an_error_of_the_slide(tmp_path: Path, cut: int) -> None:
    path = instance(tmp_path / "a.dcm", frame=picture(rgb=False))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UnreadableSlide):
        Slide(path)


def patched(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


@pytest.mark.realdata
def test_padded_levels_of_a_dicom_series_have_their_stated_spacing(data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data / "formats" / "dicom-pyramid", tmp_path / "series")
    size = {name: b"\x48\x00" + bytes([at, 0]) + b"UL\x04\x00" for name, at in (("width", 6), ("height", 7))}
    # its one tile has 256 px a side
    for name, length in (("width", 144), ("height", 192)):
        patched(
            folder / "04.dcm",
            size[name] + length.to_bytes(4, "little"),
            size[name] + (256).to_bytes(4, "little"),
        )
    with Slide(folder / "00.dcm") as slide, Slide(data / "formats" / "dicom-pyramid" / "00.dcm") as whole:
        assert slide.levels == whole.levels
        assert slide.notes[-1] == "padded to 256x256 px; 1/16 by its spacing"
        np.testing.assert_array_equal(slide.read(4, 0, 0, 144, 192), whole.read(4, 0, 0, 144, 192))


@pytest.mark.realdata
def test_levels_of_a_dicom_series_with_wrong_colours_are_not_used(data: Path) -> None:
    # level 0 was taken over from the SVS as RGB, the others encoded as YCbCr; all headers say RGB
    with Slide(data / "formats" / "dicom-edge-tiles" / "00.dcm") as slide:
        assert [level.downsample for level in slide.levels] == [1.0]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["OS-1-detail.ome.tif", "OS-2-ndpi.ome.tif"])
def test_what_qupath_exports_has_its_true_colours(data: Path, name: str) -> None:
    path = data / "formats" / "real" / name
    with Slide(path) as slide:
        assert slide.colour == "YCbCr (JFIF marker; the TIFF tag says RGB)"
        there = slide.read(0, 0, 0, slide.width, slide.height)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        start, count = page.dataoffsets[0], page.databytecounts[0]
    # as any program that shows JPEGs has it
    tile = np.asarray(Image.open(io.BytesIO(path.read_bytes()[start : start + count])))
    np.testing.assert_array_equal(there[:512, :512], tile)
