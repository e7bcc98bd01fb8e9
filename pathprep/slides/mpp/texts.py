"""Resolutions in descriptions: lists of key and value such as Aperio's, JSON, XML of scanners and libvips."""

import html
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pathprep.slides.mpp import ome
from pathprep.slides.mpp.figures import shown
from pathprep.slides.mpp.statement import Statement, read

# A line of a description; what is longer is no figure but a picture in base64
LONGEST = 2048
LINES = 1 << 20  # of the text: lists of key and value have some kilobytes
# Keys, without case and punctuation -> unit of a figure that has none; None: without a unit it is no length
_UNITS: dict[str, str | None] = {
    "mpp": "µm", "micronsperpixel": "µm", "micronperpixel": "µm", "micrometersperpixel": "µm",
    "micrometerperpixel": "µm", "micrometresperpixel": "µm", "umperpixel": "µm", "umperpx": "µm",
    "umpx": "µm", "µmpx": "µm", "umpixel": "µm", "µmpixel": "µm",
    "µmperpixel": "µm", "physicalsize": "µm", "scanres": "µm", "mm": "mm", "mmperpixel": "mm",
    "dicompixelspacing": "mm", "pixelsize": None, "pixelspacing": None, "pixelwidth": None,
    "pixelheight": None, "resolution": None,
}  # fmt: skip
_UNIT_IN_KEY = re.compile(r"[(\[]([^()\[\]]+)[)\]]\s*$")  # Pixel size (um)
_WITH_UNIT = re.compile(r"[0-9.\s](?:[^\W\d_]|[µμÅ\"])")
_OF_PIXELS = re.compile(r"(?:/|\bper\b)\s*p(?:x|ix)|\bp(?:x|ix)\w*\s*(?:/|per)", re.IGNORECASE)
_AXES = {"pixelwidth": "x", "pixelheight": "y"}
# Without a unit these may be something else: a count of pixels, dots per inch
_DOUBTFUL = frozenset({"pixelwidth", "pixelheight", "resolution"})
_HINT = re.compile("mpp|micro|micron|pixel|um ?per|u?m/p|µm|physical|scanres|mm_|resolution", re.IGNORECASE)
_PAIR = re.compile(
    r"([A-Za-zµμ][\w.\- /()\[\]]{0,99}?)\s?[=:]\s*(.*?)\s*(?=[,\s]\s*[A-Za-z_][\w.\-]*\s*[=:]|$)"
)
_LOOSE = re.compile(
    r"(?<![A-Za-z])(?:MPP|Physical ?Size ?X|Mi(?:crons?|crometer) ?per ?pixel)[\"']?\s*[=:]"
    r"(?:[^|<>\r\n0-9]{0,20}|\s*[.,]{0,3})[0-9][^|<>\"'\r\n]{0,20}",
    re.IGNORECASE,
)
_MAGNIFICATION = re.compile(r"\bAppMag\s*=\s*([0-9.,]+)")

_TAG = re.compile(r"<(?:\w+:)?([A-Za-z_][\w.-]*)((?:\s[^<>]*)?)>\s*([^<>]*)")
_NAMED = re.compile(
    r"<(?:\w+:)?(?:name|Key)\s*>([^<]*)</[^>]*>\s*<(?:\w+:)?value\b[^>]*>([^<]*)<", re.IGNORECASE
)
_LEICA_IMAGE = re.compile(r"<(?:\w+:)?image\b")
_LEICA_SIZES = {kind: re.compile(rf"<(?:\w+:)?{kind}\b([^<>]*)") for kind in ("pixels", "view")}


class Pair(NamedTuple):
    """A key and its value, as they stand."""

    key: str
    value: str


def statements(
    text: str, width: int, height: int, aperio: bool = False, path: Path | None = None
) -> list[Statement]:
    """What a description states, in the order in which it is to be believed.

    Args:
        text: the ImageDescription of level 0. width, height: of level 0, pixels.
        aperio: the file is Aperio's. path: of the slide.
    """
    found = _structured(text, width, height, aperio, path)
    if any(each.understood or each.problem for each in found) or ome.is_ome(text):
        return found
    # the figure is there, but what is around it is damaged, or of no form that is known
    loose = _LOOSE.search(text)
    return (
        [Statement("description", shown(loose[0]), problem="where the text is damaged")] if loose else found
    )


def _structured(text: str, width: int, height: int, aperio: bool, path: Path | None) -> list[Statement]:
    """What a description states whose form is known."""
    start = text.lstrip("\ufeff \t\r\n\0")
    if start.startswith("<"):
        text = ome.without_comments(text)
        if ome.is_ome(text):
            found = ome.statements(text, width, height, path)
            return found or _stated(_xml(ome.without_images(text)), "description")
        return [*_leica(text, width), *_stated(_xml(text), "description")]
    if not _HINT.search(text):
        return []
    if start.startswith("{"):
        return _stated(_json(text), "description")
    return _stated(_lines(text), "aperio" if aperio else "description")


def magnification(text: str) -> str:
    """Aperio's magnification, which is no resolution; "" if there is none."""
    found = _MAGNIFICATION.search(text[:65536])
    return found[1] if found else ""


def scanner_xml(text: str) -> list[Statement]:
    """What the XMP of a slide states (Ventana's iScan)."""
    return _stated(_xml(text), "XMP") if _HINT.search(text) else []


def _stated(pairs: Iterable[Pair], source: str) -> list[Statement]:
    """The statements of the pairs whose keys are known; x and y of one key belong together."""
    sides: dict[str, dict[str, list[Pair]]] = {}
    for pair in pairs:
        if len(pair.key) > LONGEST or len(pair.value) > LONGEST:
            continue
        known = _known(pair.key)
        if known is not None:
            name, axis = known
            sides.setdefault(name, {}).setdefault(axis, []).append(pair)
    found: list[Statement | None] = []
    for name, by_axis in sides.items():
        if name == "dicompixelspacing":
            found += _spacings(by_axis.get("", []))
            continue
        for pair in dict.fromkeys(by_axis.get("", ())):
            x, y = _two(pair.value)
            found.append(_one(source, name, pair.key, x, y))
        if "x" in by_axis or "y" in by_axis:
            x_pair, y_pair = (by_axis[axis][0] if axis in by_axis else None for axis in ("x", "y"))
            key = (x_pair or y_pair or Pair("", "")).key
            found.append(_one(source, name, key, x_pair and x_pair.value, y_pair and y_pair.value))
    return [each for each in found if each is not None]


def _one(source: str, name: str, key: str, x: str | None, y: str | None) -> Statement | None:
    """What one known key states; None if it is something else, such as a count of pixels."""
    texts = [text for text in (x, y) if text is not None]
    in_key = _UNIT_IN_KEY.search(key)
    if _plain(key) in _DOUBTFUL and not in_key and not all(_WITH_UNIT.search(text) for text in texts):
        return None
    if name == "resolution" and not all(_OF_PIXELS.search(text) for text in texts):
        return None
    key = shown(key.strip(), 40)
    unit = in_key[1] if in_key else None
    return read(
        f"aperio.{key}" if source == "aperio" else f"{source}, {key}", key, x, y, _UNITS[name], (unit, unit)
    )


def _known(key: str) -> tuple[str, str] | None:
    """The known key and the axis that a key stands for: openslide.mpp-x -> mpp, x."""
    plain = _plain(key)
    if plain in _AXES:
        return ("pixelsize", _AXES[plain])
    if plain in _UNITS:
        return None if plain == "mm" else (plain, "")
    for axis in "xy":
        if plain.endswith(axis) and plain[:-1] in _UNITS:
            return plain[:-1], axis
        if plain.startswith(axis) and plain[1:] in _UNITS and plain[1:] not in ("mm", "resolution"):
            return plain[1:], axis
    return None


def _plain(key: str) -> str:
    """A key's last part without case, punctuation and unit."""
    whole = _UNIT_IN_KEY.sub("", key.strip())
    last = whole if whole.lower().endswith((".x", ".y")) else whole.rpartition(".")[2]
    return re.sub(r"[^a-zµ0-9]", "", last.lower().replace("\u03bc", "µ"))


def _two(value: str) -> tuple[str, str]:
    """Figures along x and y in one value: "0.25 x 0.25", [0.25, 0.25]; most values have one for both."""
    parts = re.split(r"\s+x\s+|\s*[;\\]\s*|,\s+", value.strip().strip("[]()"))
    return (parts[0], parts[1]) if len(parts) == 2 and all(parts) else (value, value)


def _spacings(pairs: list[Pair]) -> list[Statement]:
    """DICOM_PIXEL_SPACING of Philips: row and column spacing in mm, quoted; the finest is level 0's."""
    found = []
    for pair in pairs:
        figures = re.findall(r"\"([^\"]*)\"", pair.value) or pair.value.split()
        if figures:
            found.append(read("Philips XML", "DICOM_PIXEL_SPACING", figures[-1], figures[0], "mm"))
    stated = [each for each in found if each is not None]
    good = sorted((each for each in stated if each.understood), key=lambda each: each.x or 0.0)
    return good[:1] or stated[:1]


def _lines(text: str) -> Iterator[Pair]:
    for segment in re.split(r"[|;\r\n\0]", text[:LINES]):
        if len(segment) <= LONGEST and ("=" in segment or ":" in segment) and _HINT.search(segment):
            for key, value in _PAIR.findall(" ".join(segment.split())):
                yield Pair(key, value)


def _json(text: str) -> list[Pair]:
    try:
        values = json.loads(text.strip("\ufeff \t\r\n\0"), parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return list(_lines(re.sub(r"[\"{}]", "", text.replace(",", "\n"))))
    found: list[Pair] = []

    def walk(value: Any, key: str, depth: int) -> None:
        if depth > 8:
            return
        if isinstance(value, dict):
            for name, each in value.items():
                # only x and y need the name above them
                walk(each, f"{key}.{name}" if name.lower() in ("x", "y") else name, depth + 1)
        elif isinstance(value, list):
            if len(value) == 2 and all(isinstance(each, str) for each in value):
                found.append(Pair(key, f"{value[0]} x {value[1]}"))
            else:
                walk(next((each for each in value if isinstance(each, dict)), None), key, depth + 1)
        elif isinstance(value, str):
            found.append(Pair(key, value))

    walk(values, "", 0)
    return found


def _xml(text: str) -> list[Pair]:
    """Keys and values in attributes, elements and pairs of elements; the first of each is level 0's."""
    named = (each.groups() for each in islice(_NAMED.finditer(text), ome.MOST))
    found = [
        Pair(html.unescape(key), html.unescape(value))
        for key, value in named
        if len(key) <= LONGEST and len(value) <= LONGEST
    ]
    for name, inside, content in (each.groups() for each in _TAG.finditer(text)):
        if len(found) > ome.MOST:
            break
        if not (_HINT.search(name) or _HINT.search(inside)):
            continue
        given = ome.attributes(inside)
        if content.strip() and len(content) <= LONGEST:
            found.append(Pair(given.get("Name") or given.get("K") or name, html.unescape(content.strip())))
        found += [Pair(key, value) for key, value in given.items()]
    spacings = [pair for pair in found if "SPACING" in pair.key]
    return [*{pair.key: pair for pair in reversed(found)}.values(), *spacings]


def _leica(text: str, width: int) -> list[Statement]:
    """Leica's SCN: the size of the image's view, in nanometres, over its pixels."""
    if "leica" not in text[:4096].lower():
        return []
    for image in _LEICA_IMAGE.split(text)[1:]:
        pixels, view = (
            ome.attributes(found[1]) if (found := pattern.search(image)) else {}
            for pattern in _LEICA_SIZES.values()
        )
        if pixels.get("sizeX") != str(width) or not view:
            continue
        try:
            x, y = (float(view[side]) / float(pixels[side]) / 1000 for side in ("sizeX", "sizeY"))
        except (KeyError, ValueError, ZeroDivisionError):
            continue
        quote = f"view of {shown(view['sizeX'])} nm over {width} px"
        return [Statement("Leica XML", quote, x, y)] if x > 0 and y > 0 else []
    return []
