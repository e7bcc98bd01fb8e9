"""What a JPEG says of itself before its first scan: size, bits, and whether it holds RGB or YCbCr.

A TIFF or DICOM tag says so too, and exporters get it wrong: Bio-Formats and QuPath write ordinary JPEGs
(YCbCr) under a tag that says RGB. Libraries that believe the tag then show wrong colours without a word.
Here the JPEG's own markers decide, as they do for every plain JPEG, and the tag only where there are none.
"""

from typing import Literal, NamedTuple

Space = Literal["RGB", "YCbCr", "grey"]

# Starts of frame: baseline, extended, progressive and arithmetic; no decoder has the others
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_JFIF, _ADOBE, _SCAN, _END = 0xE0, 0xEE, 0xDA, 0xD9
_RGB_IDS = b"RGB"
# Says that the samples are RGB as they stand
APP14_RGB = bytes.fromhex("ffee000e41646f626500640000000000")


class Contradiction(ValueError):
    """A JPEG whose colours cannot be told, though it may be whole."""


class Colours(NamedTuple):
    """What the samples of a JPEG are, and who says so: ``JFIF marker``, ``TIFF tag`` and the like."""

    space: Space
    source: str


class Header(NamedTuple):
    """A JPEG up to its first scan.

    Attributes:
        width, height: pixels. bits: per sample. ids: of its components, a byte each.
        subsampled: components are of different sizes. jfif: it has that marker.
        adobe: the colour transform that Adobe's marker states (0 none, 1 YCbCr, 2 YCCK); None without one.
        segments: (marker, start, end) of each before the scan. end: where entropy-coded data starts.
    """

    width: int
    height: int
    bits: int
    ids: bytes
    subsampled: bool
    jfif: bool
    adobe: int | None
    segments: tuple[tuple[int, int, int], ...]
    end: int


def parse(data: bytes) -> Header:
    """Read a JPEG's markers; nothing is decoded.

    Raises:
        ValueError: it is none, or of a kind that no decoder has.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("not a JPEG")
    at, jfif, adobe, frame = 2, False, None, None
    segments = []
    while True:
        start = at
        if data[at : at + 1] != b"\xff":
            raise ValueError("not a JPEG: no marker where one should be")
        while data[at : at + 1] == b"\xff":  # any number of them
            at += 1
        marker = data[at] if at < len(data) else _END
        at += 1
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if marker == _END or length < 2 or at + length > len(data):
            raise ValueError("not a whole JPEG: it ends before its picture")
        body = data[at + 2 : at + length]
        at += length
        if marker == _SCAN:
            break
        segments.append((marker, start, at))
        if marker == _JFIF and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == _ADOBE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker in _FRAMES:
            if frame is not None or len(body) < 6 or len(body) < 6 + 3 * body[5]:
                raise ValueError("a JPEG with a damaged start of frame")
            frame = body
    if frame is None:
        raise ValueError("a JPEG of a kind that is not read (lossless or differential), or without a frame")
    count = frame[5]
    return Header(
        int.from_bytes(frame[3:5], "big"),
        int.from_bytes(frame[1:3], "big"),
        frame[0],
        frame[6 : 6 + 3 * count : 3],
        len(set(frame[7 : 6 + 3 * count : 3])) > 1,
        jfif,
        adobe,
        tuple(segments),
        at,
    )


def colours(header: Header, tag: str, where: str = "TIFF tag") -> Colours:
    """What the samples are, by Adobe's marker, JFIF's, the components' names, their sizes, or else the tag.

    Args:
        tag: what the file says outside the JPEG: ``RGB``, ``YCbCr`` or another word.
        where: it says so.

    Raises:
        Contradiction: it is neither grey nor of three components, or its markers contradict one another.
    """
    if len(header.ids) == 1:
        return Colours("grey", "one component")
    if len(header.ids) != 3:
        raise Contradiction(f"a JPEG of {len(header.ids)} components (CMYK or transparency), not RGB")
    named = header.ids == _RGB_IDS
    if header.adobe == 2 or (header.adobe is not None and header.adobe > 2):
        raise Contradiction(f"a JPEG of 3 components whose Adobe marker states transform {header.adobe}")
    if header.adobe == 0:
        # for it: the components' names, the tag, components of one size. Against it: all three, or JFIF
        if not named and tag != "RGB" and (header.subsampled or header.jfif):
            raise Contradiction(
                f"a JPEG that contradicts itself: RGB by its Adobe marker, "
                f"{'YCbCr by its JFIF marker' if header.jfif else 'with the smaller chroma of YCbCr'}"
            )
        return Colours("RGB", "Adobe marker")
    if header.adobe == 1:
        return Colours("YCbCr", "Adobe marker")
    if header.jfif:
        if named and tag == "RGB" and not header.subsampled:
            raise Contradiction(
                "a JPEG that contradicts itself: YCbCr by its JFIF marker, components named R, G, B"
            )
        return Colours("YCbCr", "JFIF marker")
    if named:
        return Colours("RGB", "component names")
    if tag == "RGB" and header.subsampled:
        # nobody stores green in fewer pixels than red, and libtiff does not open it
        return Colours("YCbCr", "smaller chroma")
    if tag == "RGB":
        return Colours("RGB", where)
    if tag == "YCbCr":
        return Colours("YCbCr", where)
    raise Contradiction(f"a JPEG of three components without a marker of its colours, under a {where} {tag}")


def spliced(data: bytes, header: Header, space: Space, tables: bytes) -> bytes:
    """The bytes before the entropy-coded data, such that libjpeg decodes them as ``space``.

    Args:
        data: starts with the JPEG's header.
        tables: segments that the file keeps outside, once for all tiles.
    """
    # libjpeg takes JFIF's word before Adobe's
    drop = _JFIF if space == "RGB" and header.jfif else None
    segments = [data[start:end] for marker, start, end in header.segments if marker != drop]
    ours = APP14_RGB if space == "RGB" and header.adobe != 0 else b""
    last = header.segments[-1][2]
    return b"".join((b"\xff\xd8", ours, tables, *segments, data[last : header.end]))
