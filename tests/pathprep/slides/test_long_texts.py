"""Texts of a TIFF that are longer than any program writes, and texts made to keep a search busy.

Reported by others: bytes that are no text at the end of Aperio's description
(github.com/cgohlke/tifffile/issues/181).
"""

import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from helpers.slides import tissue, write_tiff

from pathprep.errors import MaskError, UnreadableSlide
from pathprep.slides.masks import load_mask
from pathprep.slides.mpp import texts
from pathprep.slides.readers import tiff_texts
from pathprep.slides.slide import Slide


def with_long_tag(path: Path, tag: int, length: int) -> None:
    """A classic TIFF of one tag whose value is the rest of the file, which takes no room on the disk."""
    path.write_bytes(b"II*\0" + struct.pack("<IHHHIII", 8, 1, tag, 2, length, 26, 0))
    with path.open("r+b") as file:
        file.truncate(26 + length)


@pytest.mark.parametrize(("tag", "name"), [(270, "ImageDescription"), (700, "XMP"), (305, "tag 305")])
def test_a_long_text_is_refused_before_it_is_read(tmp_path: Path, tag: int, name: str) -> None:
    path = tmp_path / "slide.tif"
    with_long_tag(path, tag, 115 << 20)
    tracemalloc.start()
    with pytest.raises(UnreadableSlide, match=rf"slide.tif: its {name} is declared as 120,586,240 bytes"):
        Slide(path)
    with pytest.raises(MaskError, match=f"its {name} is declared as 120,586,240 bytes"):
        load_mask(path, 1000, 1000, (10, 10))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_many_long_texts_are_refused(tmp_path: Path) -> None:
    """Each by itself would be read; directories that lead back to the first are not walked for ever."""
    path, length = tmp_path / "slide.tif", 1 << 23
    count = tiff_texts.ALL // length + 1
    directories = [
        struct.pack("<HHHIII", 1, 270, 2, length, 26, 8 + 18 * ((number + 1) % count))
        for number in range(count)
    ]
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(directories))
    assert tiff_texts.too_long(path) == ""  # beyond the end of the file: nobody can read it
    with path.open("r+b") as file:
        file.truncate(26 + length)
    assert "75,497,472 with what stands before" in tiff_texts.too_long(path)


def test_ordinary_slides_are_not_concerned(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "slide.tif", tissue(512, 512), levels=2, description="Aperio |MPP = 0.5")
    assert tiff_texts.too_long(path) == ""
    path.write_bytes(path.read_bytes()[:40])
    assert tiff_texts.too_long(path) == ""


def test_garbage_at_the_end_of_a_description_hides_no_mpp() -> None:
    """As KFBIO's converter writes it."""
    text = (
        "Aperio Format Scanned By KFBIO\r\n74004x44269 [0,0 74004x44269] (256x256), JPEG/RGB Q=30|AppMag = 20"
    )
    text += "|MPP = 0.484498|User = KFPBL02000110022|Time = 18:11:07|Time-Used = \x03(:.)9:\ufffd,\0"
    [found] = [each for each in texts.statements(text, 74004, 44269, aperio=True) if each.understood]
    assert found.x == pytest.approx(0.484498)


LONG = 1_000_000
BUSY = {
    "name of an attribute": "<OME><Pixels " + "a" * LONG,
    "elements": "<OME>" + "<Pixels " * (LONG // 8),
    "quotes": "<OME>" + '<Image "' * (LONG // 8),
    "spaces of a value": ("mpp=" + " " * 2000 + "x\n") * (LONG // 2005),
    "letters of a key": ("mpp=1 " + "a" * 2000 + "\n") * (LONG // 2007),
    "pairs": ("mpp" + " a:" * 660 + "\n") * (LONG // 1984),
    "nested JSON": '{"mpp":' + "[" * LONG,
    "entities": '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaa">]><OME>' + "&a;" * (LONG // 3),
}


@pytest.mark.parametrize("kind", BUSY)
def test_no_text_keeps_a_search_busy(kind: str) -> None:
    """The name of an attribute alone took hours."""
    start = time.process_time()
    texts.statements(BUSY[kind], 1000, 1000)
    texts.scanner_xml(BUSY[kind])
    assert time.process_time() - start < 10


def test_philips_spacings_take_no_time() -> None:
    from pathprep.slides.readers.directory import _philips_spacings

    start = time.process_time()
    _philips_spacings("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" + '"DICOM_PIXEL_SPACING"' * (LONG // 21))
    assert time.process_time() - start < 10
