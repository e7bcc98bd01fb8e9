"""The resolution tags of a TIFF, and ImageJ's unit for them."""

import math
import re
from typing import Any

from pathprep.slides.mpp.figures import NotUnderstood, shown, unit_of
from pathprep.slides.mpp.statement import Statement

SOURCE = "TIFF resolution tags"
# TIFF's numbers (4 and 5 are no part of the standard, but written) and OpenSlide's and cuCIM's words
_UNITS = {
    "2": ("inch", 25_400.0), "3": ("cm", 10_000.0), "4": ("mm", 1_000.0), "5": ("µm", 1.0),
    "inch": ("inch", 25_400.0), "centimeter": ("cm", 10_000.0),
}  # fmt: skip
_NONE = frozenset({"1", "none"})
# Dots per inch that programs write where they know no resolution: of screens and printers, 1, and libvips'
# one pixel per millimetre. No microscope has one of them
PLACEHOLDERS = (1.0, 2.54, 25.4, 72.0, 96.0, 150.0, 300.0, 600.0)
_PLACEHOLDERS_PER_CM = (28.0, 38.0)  # 72 and 96 dpi, rounded
_ROUNDED = 0.0015
# Above so many micrometres it is for a printer: 1270 dpi. An overview's camera is about there
WEAK = 20.0
PLAUSIBLE = (0.05, 10.0)
_IMAGEJ_UNIT = re.compile(r"^unit=(.*)$", re.MULTILINE)


def statements(x: Any, y: Any, unit: Any, description: str = "", source: str = SOURCE) -> list[Statement]:
    """What XResolution, YResolution and ResolutionUnit state.

    Args:
        x, y: pixels per unit: two integers, a number or text; None where the tag is absent.
        unit: TIFF's number, or OpenSlide's word; None where the tag is absent, which is inch.
        description: of the image, in which ImageJ states its unit.
        source: where they stand.
    """
    if x is None and y is None:
        return []
    values = [_number(each) for each in (x, y) if each is not None]
    quote = " x ".join(
        dict.fromkeys(f"{each:.6g}" if isinstance(each, float) else shown(each) for each in values)
    )
    if any(isinstance(each, str) for each in values):
        return [Statement(source, f"{quote} pixels", problem="it is no number")]
    figures = [each for each in values if isinstance(each, float)]
    if not any(figures):
        return [Statement(source, f"{quote} pixels", note="which is not set")]
    if not all(0 < each < math.inf for each in figures):
        return [Statement(source, f"{quote} pixels", problem="one of them is not set")]
    name = "2" if unit is None else str(unit).strip().lower()
    if name in _NONE:
        return _without_unit(figures, quote, description, source)
    if name not in _UNITS:
        return [Statement(source, f"{quote} pixels per unit {shown(name)}", problem="its unit is not known")]
    word, length = _UNITS[name]
    quote = f"{quote} pixels per {word}"
    if all(_is_placeholder(each, length) for each in figures):
        return [Statement(source, quote, note="which programs write where they know no resolution")]
    return [_statement(source, quote, figures, length)]


def _statement(source: str, quote: str, figures: list[float], length: float) -> Statement:
    along_x, along_y = length / figures[0], length / figures[-1]
    note = "for one side only, taken for both" if len(figures) == 1 else ""
    return Statement(source, quote, along_x, along_y, note=note, weak=min(along_x, along_y) > WEAK)


def _without_unit(figures: list[float], quote: str, description: str, where: str) -> list[Statement]:
    """Pixels per something: per ImageJ's unit, if it names one."""
    named = _IMAGEJ_UNIT.search(description) if description.startswith("ImageJ=") else None
    if named is not None:
        source = "ImageJ description"
        quote = f"unit={shown(named[1])} and {quote} pixels per unit"
        try:
            length = unit_of(named[1])
        except NotUnderstood as error:
            return [Statement(source, quote, problem=str(error))]
        if length is None:
            return [Statement(source, quote, note="which says nothing about length")]
        return [_statement(source, quote, figures, length)]
    if set(figures) == {1.0}:
        return []  # which is how a TIFF says that it knows no resolution
    quote = f"{quote} pixels per unit, without a unit"
    # It may be the shape of pixels, for which the standard has it; or the unit was lost on the way
    guesses = {"per cm": 10_000 / figures[0], "per inch": 25_400 / figures[0], "micrometres": figures[0]}
    likely = {word: mpp for word, mpp in guesses.items() if _plausible(mpp)}
    if likely and len(set(figures)) == 1:
        problem = " and ".join(f"{word} it would be {mpp:.4g} MPP" for word, mpp in likely.items())
        return [Statement(where, quote, problem=problem, guesses=tuple(likely.values()))]
    return [Statement(where, quote, note="which says nothing about length")]


def _plausible(mpp: float) -> bool:
    return PLAUSIBLE[0] <= mpp <= PLAUSIBLE[1]


def _is_placeholder(figure: float, length: float) -> bool:
    dots = figure * 25_400 / length
    return any(math.isclose(dots, each, rel_tol=_ROUNDED) for each in PLACEHOLDERS) or (
        length == 10_000 and figure in _PLACEHOLDERS_PER_CM
    )


def _number(value: Any) -> float | str:
    """A tag's value as a number, 0 if its denominator is; text if it is neither."""
    try:
        if isinstance(value, tuple | list):
            if len(value) != 2:
                return str(value)
            return float(value[0]) / float(value[1]) if value[1] else 0.0
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
