"""What pictures hold beside their pixels: EXIF, XMP, comments. Only headers are read, no pixel is decoded."""

import struct
from collections.abc import Iterator

HEAD = 1 << 16  # bytes of a picture in which its metadata begins
# Segments of a JPEG that say how to show it: JFIF, ICC profile, Adobe's transform
_PLAIN = {0xE0, 0xE2, 0xEE}
_CHUNKS = {b"tEXt": "a text", b"zTXt": "a text", b"iTXt": "a text or XMP", b"eXIf": "EXIF", b"tIME": "a time"}


def metadata(head: bytes) -> Iterator[tuple[str, str]]:
    """What a JPEG or PNG holds beside pixels, as in "EXIF", and the first readable words of it.

    Args:
        head: the first HEAD bytes of the file, or all of it.
    """
    if head.startswith(b"\xff\xd8"):
        yield from _jpeg(head)
    elif head.startswith(b"\x89PNG\r\n\x1a\n"):
        yield from _png(head)


def _jpeg(head: bytes) -> Iterator[tuple[str, str]]:
    place = 2
    while place + 4 <= len(head) and head[place] == 0xFF:
        kind = head[place + 1]
        if kind == 0xFF:  # fill
            place += 1
            continue
        if kind == 0xDA or 0xD0 <= kind <= 0xD9:
            return
        (length,) = struct.unpack_from(">H", head, place + 2)
        data = head[place + 4 : place + 2 + length]
        if kind == 0xFE:
            yield "a comment", _words(data)
        elif 0xE0 <= kind <= 0xEF and kind not in _PLAIN:
            yield _application(kind, data), _words(data)
        place += 2 + length


def _application(kind: int, data: bytes) -> str:
    if data.startswith(b"Exif\0"):
        return "EXIF"
    if data.startswith(b"http://ns.adobe.com/"):
        return "XMP"
    return "IPTC" if data.startswith(b"Photoshop") else f"a segment APP{kind - 0xE0}"


def _png(head: bytes) -> Iterator[tuple[str, str]]:
    place = 8
    while place + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, place)
        if kind in _CHUNKS:
            yield _CHUNKS[kind], _words(head[place + 8 : place + 8 + length])
        place += 12 + length


def _words(data: bytes) -> str:
    text = "".join(chr(byte) if 32 <= byte < 127 else " " for byte in data[:400])
    return " ".join(word for word in text.split() if len(word) > 2)
