"""Readers of slide files: libjpeg-turbo for JPEG TIFF and SVS, cuCIM for JPEG 2000, OpenSlide for most
others; libCZI, zarr and Pillow for what OpenSlide does not know.

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
from pathprep.slides.readers import czi, foreign, ome_zarr, picture, tiff
from pathprep.slides.readers.base import Level, Reader
from pathprep.slides.readers.cucim import CucimReader
from pathprep.slides.readers.cucim import refusal as cucim_refusal
from pathprep.slides.readers.directory import Directory, read_directory
from pathprep.slides.readers.openslide import OpenSlideReader

__all__ = ["Level", "Reader", "choose", "open_reader"]

# Of those that cuCIM decodes, the ones where it says so if it cannot: none, and Aperio JPEG 2000 (RGB). A
# corrupt JPEG or LZW tile it shows as zeros, or as the tile read before.
CUCIM_COMPRESSIONS = frozenset({1, 33005})


Choice = Literal["tiff", "cucim", "openslide", "picture", "czi", "zarr"]


def choose(path: Path) -> Choice:
    """The reader for a file: for tiled 8-bit RGB TIFFs ``tiff`` if they are JPEG, cuCIM if they are JPEG 2000
    or not compressed, else OpenSlide; ``tiff`` also for what OpenSlide does not open or sees in part. Plain
    images and folders of OME-Zarr have readers of their own, and so has CZI that OpenSlide does not open.

    Raises:
        UnreadableSlide: the file declares impossible sizes, is cut off, or not of 8 bits.
    """
    return _choice(path, None if path.is_dir() else read_directory(path))


def _choice(path: Path, directory: Directory | None) -> Choice:
    if path.is_dir():
        return "zarr"
    if directory is None:
        with path.open("rb") as file:
            start = file.read(32)
        if start.startswith(czi.MAGIC):
            return "openslide" if _opens(path) else "czi"
        # of the others it says what is wrong with them
        return "picture" if foreign.is_picture(path, start) else "openslide"
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


def _opens(path: Path) -> bool:
    try:
        OpenSlideReader(path).close()
    except UnreadableSlide:
        return False
    return True


def open_reader(path: Path, name: ReaderName = "auto") -> Reader:
    """Open a slide file, or a folder of OME-Zarr.

    Raises:
        UnreadableSlide: the file is absent, empty, or no reader understands it.
    """
    _check_file(path)
    # whichever reader is asked for: what is impossible is refused here, before a native library opens it
    directory = None if path.is_dir() else read_directory(path)
    if name == "auto":
        name = _choice(path, directory)
    if path.is_dir() != (name == "zarr"):
        what = "a folder" if path.is_dir() else "a file"
        raise UnreadableSlide(f"{path}: is {what}, which the reader {name} does not read; use `reader` auto")
    if name == "tiff":
        return tiff.TiffReader(path, directory)
    if name == "cucim":
        return CucimReader(path, directory)
    if name == "openslide":
        return OpenSlideReader(path, directory)
    if name == "czi":
        foreign.check(path)
        return czi.CziReader(path)
    return picture.PictureReader(path) if name == "picture" else ome_zarr.ZarrReader(path)


def _check_file(path: Path) -> None:
    """Refuse what cannot be read, with the system's own reason: native libraries take all for damage."""
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            if ome_zarr.image_in(path) is None:
                raise UnreadableSlide(f"{path}: is a folder, not a slide")
            return
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
