"""Readers of slide files: cuCIM for what it reads well, OpenSlide for the rest.

``choose`` looks at the file before a native library does, because some files crash cuCIM or are read
wrongly by it: TIFFs with deflate or WebP tiles, strips, 16 bits, or pyramids in SubIFDs.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Literal

import tifffile

from pathprep.errors import UnreadableSlide
from pathprep.readers.base import Level, Reader

__all__ = ["EXTENSIONS", "Level", "Reader", "ReaderName", "choose", "one_per_series", "open_reader"]

ReaderName = Literal["auto", "cucim", "openslide"]

# tifffile logs what it finds wrong; the reader that then opens the file reports it
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# What is picked up from a folder. A file named on the command line is tried whatever its suffix.
EXTENSIONS = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".dcm"}
)

# TIFF compressions that cuCIM's default plugin decodes correctly: none, LZW, JPEG, Aperio JPEG 2000 (RGB)
CUCIM_COMPRESSIONS = frozenset({1, 5, 7, 33005})


def choose(path: Path) -> Literal["cucim", "openslide"]:
    """The reader for a file: cuCIM for tiled 8-bit RGB TIFFs in a compression it decodes, else OpenSlide."""
    if path.suffix.lower() not in {".svs", ".tif", ".tiff"}:
        return "openslide"
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            suits = (
                page.is_tiled
                and page.compression in CUCIM_COMPRESSIONS
                and page.dtype == "uint8"
                and page.samplesperpixel == 3
                and page.planarconfig == 1
                and not page.subifds
            )
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError):
        return "openslide"  # which says what is wrong with the file
    return "cucim" if suits else "openslide"


def open_reader(path: Path, name: ReaderName = "auto") -> Reader:
    """Open a slide file.

    Raises:
        UnreadableSlide: the file is absent, empty, or no reader understands it.
    """
    if not path.exists():
        raise UnreadableSlide(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise UnreadableSlide(f"{path}: the file is empty; copy it again from its source")
    if name == "auto":
        name = choose(path)
    # Imported here: each loads a native library, and a run needs only the one its slides need
    if name == "cucim":
        from pathprep.readers.cucim import CucimReader

        return CucimReader(path)
    from pathprep.readers.openslide import OpenSlideReader

    return OpenSlideReader(path)


def one_per_series(paths: list[Path]) -> list[Path]:
    """Drop all but the first DICOM file of a series: a DICOM slide is a folder of files, one a level.

    OpenSlide opens the whole slide from any of them. Files of other formats pass through.
    """
    from openslide import OpenSlide, OpenSlideError

    folders = Counter(path.parent for path in paths if path.suffix.lower() == ".dcm")
    seen: set[str] = set()
    kept = []
    for path in paths:
        if path.suffix.lower() == ".dcm" and folders[path.parent] > 1:
            try:
                with OpenSlide(str(path)) as slide:
                    series = slide.properties.get("dicom.SeriesInstanceUID", str(path))
            except OpenSlideError:
                series = str(path)  # kept, so that the run reports it
            if series in seen:
                continue
            seen.add(series)
        kept.append(path)
    return kept
