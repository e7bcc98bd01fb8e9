"""JPEGs with what cameras and scanners write beside the picture, built by hand."""

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image

SECRET = b"Doe^Jane MRN-0815"


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def exif(orientation: int = 1) -> bytes:
    """An Exif part with an artist, a GPS position and a thumbnail's bytes."""
    artist, gps = SECRET + b"\0", 200
    entries = struct.pack("<HHII", 0x0112, 3, 1, orientation)
    entries += struct.pack("<HHII", 0x013B, 2, len(artist), 100)
    entries += struct.pack("<HHII", 0x8825, 4, 1, gps)
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 3) + entries + struct.pack("<I", 0)
    tiff = tiff.ljust(100, b"\0") + artist
    north = struct.pack("<HHI", 1, 2, 2) + b"N\0\0\0"
    tiff = tiff.ljust(gps, b"\0") + struct.pack("<H", 1) + north + struct.pack("<I", 0)
    return segment(0xE1, b"Exif\0\0" + tiff + b"\xff\xd8thumbnail of " + SECRET + b"\xff\xda\xff\xd9")


PARTS = {
    "exif": exif(),
    "xmp": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"),
    "profile": segment(0xE2, b"ICC_PROFILE\0\x01\x01" + SECRET),
    "mpf": segment(0xE2, b"MPF\0" + SECRET),
    "photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0" + SECRET),
    "comment": segment(0xFE, SECRET),
    "thumbnail": segment(0xE0, b"JFXX\0\x10\xff\xd8" + SECRET + b"\xff\xd9"),
    "jfif thumbnail": segment(0xE0, b"JFIF\0\x01\x02\x01\0H\0H\x02\x03" + (SECRET * 2)[:18]),
    "adobe, longer": segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01" + SECRET),
    "other app": segment(0xEB, SECRET),
}


def plain(pixels: npt.NDArray[np.uint8], **options: object) -> bytes:
    """A JPEG as Pillow writes it."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", **options)
    return data.getvalue()


def told(pixels: npt.NDArray[np.uint8], **options: object) -> bytes:
    """One with every part, also before its end, and more behind it."""
    data = plain(pixels, **options)
    head = b"".join(PARTS.values())
    return data[:2] + head + data[2:-2] + PARTS["comment"] + data[-2:] + b"trailer of " + SECRET
