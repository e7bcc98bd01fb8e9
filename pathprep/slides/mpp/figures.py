"""Lengths as files write them: 0,4990; 0.25 µm/px; 250 nm; 4000 px/mm."""

import math
import re

# Decimal point or comma. Not float(): it takes 1_0, nan, and digits of other scripts
_FIGURE = r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?"
_LENGTH = re.compile(rf"\s*(?P<figure>{_FIGURE})\s*(?P<unit>(?:[^\W\d_]|[\\\"/&?\ufffd]).*?)?\s*")
_PER_PIXEL = re.compile(r"\s*(?:/|\bper\b)\s*(?:px|pix|pixels?)\.?$", re.IGNORECASE)
_PIXELS_PER = re.compile(r"^(?:px|pix|pixels?)\s*(?:/|\bper\b)\s*", re.IGNORECASE)

# Micrometres. The symbols are OME's (UnitsLength); case tells mm from Mm, so they are looked up as they stand
_SYMBOLS = {
    "Ym": 1e30, "Zm": 1e27, "Em": 1e24, "Pm": 1e21, "Tm": 1e18, "Gm": 1e15, "Mm": 1e12, "km": 1e9, "hm": 1e8,
    "dam": 1e7, "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6, "fm": 1e-9,
    "am": 1e-12, "zm": 1e-15, "ym": 1e-18, "Å": 1e-4, "thou": 25.4, "li": 25_400 / 12, "in": 25_400.0,
    "ft": 304_800.0, "yd": 914_400.0, "mi": 1_609_344_000.0, "pt": 25_400 / 72,
}  # fmt: skip
_WORDS = {
    "um": "µm", "µ": "µm", "micron": "µm", "micrometer": "µm", "micrometre": "µm", "mikrometer": "µm",
    "nanometer": "nm", "nanometre": "nm", "millimeter": "mm", "millimetre": "mm", "centimeter": "cm",
    "centimetre": "cm", "meter": "m", "metre": "m", "angstrom": "Å", "ångström": "Å", "inch": "in",
    "inche": "in", '"': "in", "mil": "thou", "point": "pt", "picometer": "pm", "picometre": "pm",
}  # fmt: skip
# Units that say nothing about length
UNSCALED = frozenset({"pixel", "pixels", "px", "reference frame", "none", "n/a", "unknown", "null"})
# Micro has two letters (the sign and the Greek one), and is often lost on the way through other encodings:
# UTF-8 read as Latin-1, ImageJ's escape, a replacement character. No other unit is one odd letter and an m
_MICRO = re.compile(
    r"^(?:\u00c2?\u00b5|\u03bc|\u00ce\u00bc|\\u00[bB]5|\\u03[bB][cC]|\ufffd{1,2}|\?{1,2}|&#181;|&micro;)m?$"
)
_ANGSTROM = re.compile(r"^(?:\u00c5|\u212b|A\u030a|\u00c3\u2026|\u00c3\u0085)$")


class NotUnderstood(ValueError):
    """A figure or unit that is there and makes no sense; the message says why."""


def unit_of(text: str) -> float | None:
    """Micrometres in a unit; None if it is no length (``pixel``).

    Raises:
        NotUnderstood: unknown.
    """
    name = text.strip()
    if name.lower() in UNSCALED:
        return None
    if _MICRO.match(name):
        name = "µm"
    elif _ANGSTROM.match(name):
        name = "Å"
    if name not in _SYMBOLS:
        lower = name.lower()
        word = _WORDS.get(lower) or _WORDS.get(lower.rstrip("s")) or lower
        if word not in _SYMBOLS:
            raise NotUnderstood(f"its unit {shown(text)} is not known")
        name = word
    return _SYMBOLS[name]


def figure(text: str) -> float:
    """A positive number with a decimal point or comma.

    Raises:
        NotUnderstood: it is none.
    """
    if not re.fullmatch(_FIGURE, text.strip()):
        raise NotUnderstood("it is no number")
    value = float(text.strip().replace(",", "."))
    if not 0 < value < math.inf:
        raise NotUnderstood("it is no length")
    return value


def micrometres(text: str, unit: str | None, usual: str | None = None) -> float | None:
    """Micrometres per pixel that a text states.

    Args:
        text: a figure, perhaps with its own unit (``0.25 µm/px``, ``4000 px/mm``).
        unit: that the file states for it. usual: of a figure without any; None: there must be one.

    Returns:
        None if the unit is no length (``pixel``).

    Raises:
        NotUnderstood: no figure, not above 0, an unknown unit, or two units.
    """
    found = _LENGTH.fullmatch(text.strip().strip("\"'"))
    if found is None:
        raise NotUnderstood("it is no number")
    value = figure(found["figure"])
    own = found["unit"]
    inverse = False
    if own:
        per_pixel = _PER_PIXEL.sub("", own)
        inverse = bool(_PIXELS_PER.search(own))
        own = _PIXELS_PER.sub("", own) if inverse else per_pixel
    if own and not inverse and unit is not None and unit_of(own) != unit_of(unit):
        raise NotUnderstood(f"it has two units, {shown(own)} and {shown(unit)}")
    named = own or unit or usual
    if not named:
        raise NotUnderstood("it has no unit")
    length = unit_of(named)
    if length is None:
        return None
    result = length / value if inverse else value * length
    if not 0 < result < math.inf:
        raise NotUnderstood("it is no length")
    return result


def shown(text: str, most: int = 60) -> str:
    """Text of a file as it can be printed: on one line, not too long."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text[: 4 * most].split()))
    return line if len(line) <= most else line[: most - 3] + "..."
