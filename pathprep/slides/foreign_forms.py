"""Annotations of other programs that are no GeoJSON: named, so that an error can say what they are."""

from typing import Any

HEAD = 4096  # bytes that are looked at
FIX = "save the areas as GeoJSON, as QuPath exports them, or as a PNG"

# What stands near the start of a file -> what it is. Longer ones first, where one begins with another
_TEXTS = {
    b"<ASAP_Annotations": "annotations of ASAP (XML)",
    b"<Annotations": "annotations of ImageScope (XML)",
    b"<annotations": "annotations of NDP.view (XML)",
    b"<svg": "an SVG drawing",
    b"<?xml": "XML",
}
_BYTES = {
    b"PK\x03\x04": "a ZIP archive; unpack it",
    b"\x93NUMPY": f"a NumPy array; {FIX}",
    b"\x89HDF": f"HDF5; {FIX}",
    b"%PDF": f"a PDF; {FIX}",
}
# Keys of a JSON object, all of which are there
_KEYS = {
    ("images", "annotations", "categories"): "COCO annotations",
    ("shapes", "imagePath"): "annotations of LabelMe",
    ("_via_img_metadata",): "annotations of VIA",
    ("arcs", "objects"): "TopoJSON",
    ("elements",): "annotations of the Digital Slide Archive",
    ("annotation",): "annotations of the Digital Slide Archive",
    ("item", "annotations"): "annotations of Darwin",
}


def recognised(data: bytes) -> str:
    """What a file is instead of GeoJSON or a picture, and what to do; "" where it is not known."""
    head = data[:HEAD].replace(b"\0", b"")  # UTF-16 too
    for mark, words in _BYTES.items():
        if data.startswith(mark):
            return words
    if head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<"):
        found = next((words for mark, words in _TEXTS.items() if mark in head), "XML or HTML")
        return f"{found}; {FIX}"
    return ""


def recognised_json(content: Any) -> str:
    """The same, of a JSON value."""
    if not isinstance(content, dict):
        return ""
    words = next((words for keys, words in _KEYS.items() if all(key in content for key in keys)), "")
    return f"{words}; {FIX}" if words else ""


def is_json(data: bytes) -> bool:
    """Whether a file begins as JSON does, gzipped or not."""
    head = data[:HEAD].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return head.startswith((b"{", b"[")) or data.startswith(b"\x1f\x8b")
