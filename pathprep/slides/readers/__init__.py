"""Readers of slide files: libjpeg-turbo for JPEG TIFF and SVS, cuCIM for JPEG 2000, OpenSlide for the rest.

``choose`` looks at the file before a native library does, because some files crash cuCIM or are read
wrongly by it or by OpenSlide: TIFFs with deflate or WebP tiles, 16 bits, pyramids in SubIFDs, JPEG tiles
under a tag that states other colours. What declares impossible sizes, or would be read wrongly by whoever
opens it, is refused before anything is opened.
"""

import stat
from pathlib import Path
from typing import Literal

from pathprep.errors import UnreadableSlide, explain_os_error
from pathprep.params.shard import ReaderName
from pathprep.slides.readers import tiff
from pathprep.slides.readers.base import Level, Reader
from pathprep.slides.readers.cucim import CucimReader
from pathprep.slides.readers.cucim import refusal as cucim_refusal
from pathprep.slides.readers.directory import Directory, read_directory
from pathprep.slides.readers.openslide import OpenSlideReader

__all__ = ["Level", "Reader", "choose", "open_reader"]

# Of those that cuCIM decodes, the ones where it says so if it cannot: none, and Aperio JPEG 2000 (RGB). A
# corrupt JPEG or LZW tile it shows as zeros, or as the tile read before.
CUCIM_COMPRESSIONS = frozenset({1, 33005})


def choose(path: Path) -> Literal["tiff", "cucim", "openslide"]:
    """The reader for a file: for tiled 8-bit RGB TIFFs ``tiff`` if they are JPEG, cuCIM if they are JPEG 2000
    or not compressed, else OpenSlide; ``tiff`` also for what OpenSlide does not open or sees in part.

    Raises:
        UnreadableSlide: the file declares impossible sizes, is cut off, not tiled, or not of 8 bits.
    """
    return _choice(read_directory(path))


def _choice(directory: Directory | None) -> Literal["tiff", "cucim", "openslide"]:
    if directory is None:
        return "openslide"  # which says what is wrong with the file
    if tiff.suits(directory):
        return "tiff"
    suits = (
        directory.known
        and not directory.subifds
        and not cucim_refusal(directory)
        and all(
            page.compression in CUCIM_COMPRESSIONS
            # cuCIM shows black where there is no tile, OpenSlide the background
            and page.counts.all()
            for page in directory.pages
        )
    )
    return "cucim" if suits else "openslide"


def open_reader(path: Path, name: ReaderName = "auto") -> Reader:
    """Open a slide file.

    Raises:
        UnreadableSlide: the file is absent, empty, or no reader understands it.
    """
    _check_file(path)
    # whichever reader is asked for: what is impossible is refused here, before a native library opens it
    directory = read_directory(path)
    if name == "auto":
        name = _choice(directory)
    if name == "tiff":
        return tiff.TiffReader(path, directory)
    if name == "cucim":
        return CucimReader(path, directory)
    return OpenSlideReader(path, directory)


def _check_file(path: Path) -> None:
    """Refuse what cannot be read, with the system's own reason: native libraries take all for damage."""
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise UnreadableSlide(f"{path}: is a folder, not a slide")
        if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for ever
            raise UnreadableSlide(f"{path}: not a file but a pipe, socket or device")
        if state.st_size == 0:
            raise UnreadableSlide(f"{path}: the file is empty; copy it again from its source")
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise UnreadableSlide(f"{path}: no such file") from None
    except OSError as error:
        error.filename = str(path)
        raise UnreadableSlide(explain_os_error(error, reading=True)) from None
