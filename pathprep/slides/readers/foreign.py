"""Judges files that are no TIFF before OpenSlide opens them.

Pictures that are no slides are named, and samples of more than 8 bits refused, which it would cut.
"""

from pathlib import Path

import openslide

from pathprep.errors import UnreadableSlide
from pathprep.slides.readers import convert

_PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"GIF8": "GIF"}
_JP2 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_CZI = b"ZISRAWFILE"
# Zeiss' numbers of pixel types -> bits per sample of those with more than 8
_CZI_DEEP = {1: 16, 2: 32, 4: 48 // 3, 8: 96 // 3, 10: 64, 11: 64, 12: 32, 13: 64}


def check(path: Path) -> None:
    """Refuse what OpenSlide would not open or show wrongly.

    Raises:
        UnreadableSlide: with the reason.
    """
    with path.open("rb") as file:
        start = file.read(132)
    if start.startswith(_CZI):
        _check_czi(path)
    name = next((name for magic, name in _PICTURES.items() if start.startswith(magic)), "")
    name = name or ("JPEG 2000" if start.startswith(_JP2) else "")
    name = name or ("WebP" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else "")
    # MRXS slides begin with a file that is a JPEG
    if name and path.suffix.lower() != ".mrxs" and openslide.OpenSlide.detect_format(str(path)) is None:
        raise UnreadableSlide(
            f"{path}: a {name}, which is not tiled as slides are; {convert.tiled(path.name)}"
        )


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
