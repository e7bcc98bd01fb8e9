"""Judges files that are no TIFF before OpenSlide opens them.

Pictures that are no slides are named, and samples of more than 8 bits refused, which it would cut.
"""

from pathlib import Path

import openslide
import tifffile

from pathprep.errors import UnreadableSlide
from pathprep.slides.readers import czi, picture
from pathprep.slides.readers.directory import MAGIC

# Zeiss' numbers of pixel types -> bits per sample of those with more than 8
_CZI_DEEP = {1: 16, 2: 32, 4: 48 // 3, 8: 96 // 3, 10: 64, 11: 64, 12: 32, 13: 64}


def check(path: Path) -> None:
    """Refuse what OpenSlide would not open or show wrongly.

    Raises:
        UnreadableSlide: with the reason.
    """
    with path.open("rb") as file:
        start = file.read(132)
    if start.startswith(czi.MAGIC):
        _check_czi(path)
    if is_picture(path, start):
        raise UnreadableSlide(
            f"{path}: a {picture.kind(start)}, which OpenSlide does not read; use `reader` auto"
        )


def is_picture(path: Path, start: bytes) -> bool:
    """Whether a file that is no tiled TIFF is a plain image.

    Args:
        start: its first bytes.
    """
    if not (_in_strips(path) if start[:4] in MAGIC else picture.kind(start)):
        return False
    # MRXS and VMS slides begin with a file that is a JPEG, or lie beside some; NDPI is in strips
    return path.suffix.lower() != ".mrxs" and openslide.OpenSlide.detect_format(str(path)) is None


def _in_strips(path: Path) -> bool:
    try:
        with tifffile.TiffFile(path) as tiff:
            return not tiff.pages.first.is_tiled
    except Exception:  # of a damaged one OpenSlide says what it is
        return False


def _check_czi(path: Path) -> None:
    """Bits of a Zeiss CZI, by the pixel type of its first subblock."""
    with path.open("rb") as file:
        file.seek(32 + 52)  # behind the segment's header: where the directory stands
        file.seek(int.from_bytes(file.read(8), "little"))
        segment = file.read(32 + 128 + 6)
    entry = segment[160:]
    if not segment.startswith(b"ZISRAWDIRECTORY") or entry[:2] != b"DV":
        return  # OpenSlide says what is wrong with it
    bits = _CZI_DEEP.get(int.from_bytes(entry[2:6], "little"))
    if bits is not None:
        raise UnreadableSlide(
            f"{path}: {bits} bits per sample (CZI's pixel type), 8 are read; export it from ZEN "
            "with 24-bit pixels"
        )
