"""What a JPEG holds beside its picture, and the file without it, not coded anew.

Cameras and scanners write names, dates, places, device numbers and small copies of the picture into a JPEG:
Exif, XMP, Photoshop's resources (IPTC), comments, colour profiles, thumbnails, whole files behind the end.
Nothing of it changes how this project decodes the picture, but for two marks by which a decoder tells the
colours: JFIF and Adobe's. These stay, cut to what the decoder looks at. Source: ITU-T T.81 (1992), annex B;
JFIF 1.02; libjpeg's jdmarker.c for what a decoder takes for JFIF and Adobe.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

START, END, SCAN, COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
APP0, APP14, LAST_APP = 0xE0, 0xEE, 0xEF
BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
JFIF, ADOBE = 14, 12  # bytes that a decoder looks at
SCANS = 100  # a picture of many passes has about ten; each costs as much as all of a plain one

_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker behind coded data: no stuffed byte, no restart


class Segment(NamedTuple):
    """A marker with what it holds, and with the coded data behind it.

    Attributes:
        marker: its second byte. start, stop: of its bytes, from the FF on.
    """

    marker: int
    start: int
    stop: int


def segments(data: bytes) -> Iterator[Segment]:
    """The parts of a JPEG from behind its start to its end mark, which is the last; without filling bytes.

    Raises:
        ValueError: it is not a JPEG, is cut off, or has more than SCANS passes.
    """
    if data[:2] != bytes((0xFF, START)):
        raise ValueError("not a JPEG")
    place, scans = 2, 0
    while True:
        if place + 2 > len(data):
            raise ValueError("a JPEG without an end; it is cut off")
        if data[place] != 0xFF:
            raise ValueError("a JPEG with bytes between its parts; it is damaged")
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if marker == END or marker in BARE:
            yield Segment(marker, place, place + 2)
            if marker == END:
                return
            place += 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        stop = place + 2 + length
        if length < 2 or stop > len(data):
            raise ValueError("a JPEG with a part that is cut off")
        if marker == SCAN:
            scans += 1
            if scans > SCANS:
                raise ValueError(f"a JPEG of more than {SCANS} passes; save it anew")
            found = _NEXT.search(data, stop)
            stop = found.start() if found else len(data)
        yield Segment(marker, place, stop)
        place = stop


def dropped(data: bytes) -> bytes:
    """The JPEG with nothing but what its picture needs; the same bytes if there is nothing else.

    The coded picture is taken over to the bit: both decode to the same pixels.

    Args:
        data: a JPEG that can be decoded.

    Raises:
        ValueError: see ``segments``.
    """
    kept, whole, end = [data[:2]], True, 2
    for marker, start, end in segments(data):
        part = data[start:end]
        if marker == COMMENT or APP0 <= marker <= LAST_APP:
            needed = _colour_mark(marker, part)
            whole = whole and needed == part
            part = needed
        kept.append(part)
    return data if whole and end == len(data) else b"".join(kept)


def _colour_mark(marker: int, part: bytes) -> bytes:
    """What a decoder needs of such a part: nothing, or JFIF's or Adobe's mark, without a thumbnail."""
    body = part[4:]
    if marker == APP0 and body[:5] == b"JFIF\0" and len(body) >= JFIF:
        body = body[: JFIF - 2] + b"\0\0"  # the thumbnail's sides
    elif marker == APP14 and body[:5] == b"Adobe" and len(body) >= ADOBE:
        body = body[:ADOBE]
    else:
        return b""
    return part[:2] + (len(body) + 2).to_bytes(2, "big") + body
