"""Reads with OpenSlide what cuCIM does not: NDPI, MRXS, SCN, BIF, DICOM, other compressions."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide

from pathprep.errors import UnreadableSlide
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers import convert, dicom, foreign, tiff
from pathprep.slides.readers.base import Bounds, Level, Pixels
from pathprep.slides.readers.directory import Directory
from pathprep.slides.readers.levels import Declared, Found, noted, settle


class OpenSlideReader:
    """A slide opened by OpenSlide."""

    name = "openslide"

    def __init__(self, path: Path, directory: Directory | None = None) -> None:
        self.path = path
        series: list[dicom.Instance] = []
        if directory is None:
            foreign.check(path)
            series = dicom.series(path)
            if series and (problem := dicom.problem(series[0])):
                raise UnreadableSlide(f"{path}: {problem}")
        elif (wrong := directory.wrong_tag) is not None:
            hint = "use `reader` auto" if tiff.suits(directory) else convert.TILED
            raise UnreadableSlide(
                f"{path}: OpenSlide would believe the tag that says {wrong.tag} and show wrong colours, "
                f"as the tiles hold {wrong.colour}; {hint}"
            )
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            hint = _foreign(str(error)) if directory is None else _instead(directory, str(error))
            raise UnreadableSlide(f"{path}: OpenSlide cannot open it ({error}); {hint}") from None
        properties = self._slide.properties
        self.vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        found = _levels(path, self._slide, directory, series)
        self.levels, self.notes = [each.level for each in found], [each.note for each in found]
        self.colour = "as OpenSlide decodes it" if directory is None else directory.colour
        # OpenSlide's own numbers of the levels, and what it divides positions by
        self._numbers = [each.number for each in found]
        self._downsamples = [self._slide.level_downsamples[number] for number in self._numbers]
        self.header = (
            directory.header.opened(self.vendor, properties)
            if directory
            else Header.of_openslide(path, self.vendor, self._slide.dimensions, properties)
        )
        self.bounds = _bounds(properties, *self._slide.dimensions)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        scale, number = self._downsamples[level], self._numbers[level]
        try:
            region = self._slide.read_region((round(x * scale), round(y * scale)), number, (width, height))
        except openslide.OpenSlideError as error:
            raise UnreadableSlide(
                f"{self.path}: cannot read {width}x{height} at {x},{y} of level {level} ({error})"
            ) from None
        rgba = np.asarray(region)
        if rgba[:, :, 3].min() == 255:
            return np.ascontiguousarray(rgba[:, :, :3])
        # Areas that the scanner did not cover are transparent: they become white, whatever colour some
        # files state for them, as black would be taken for tissue
        alpha = rgba[:, :, 3:].astype(np.uint16)
        blended = (rgba[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return blended.astype(np.uint8)

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


def _foreign(error: str) -> str:
    """What to do with a file that is no TIFF and that OpenSlide does not open."""
    if "Unsupported transfer syntax" in error:
        return "its tiles are of a compression that OpenSlide does not read: convert it to JPEG or JPEG 2000"
    return "is it a complete slide?"


def _instead(directory: Directory, error: str) -> str:
    """What to do with a TIFF that OpenSlide does not open."""
    if tiff.suits(directory):
        return "use `reader` auto"
    reason = tiff.refusal(directory)
    if reason and (not directory.known or "Unsupported TIFF" in error):
        return f"nor does the reader tiff read it, as {reason}; {convert.TILED}"
    return "is it a complete slide?"


def _levels(
    path: Path, slide: openslide.OpenSlide, directory: Directory | None, series: list[dicom.Instance]
) -> list[Found]:
    """OpenSlide's levels with their true downsamples.

    Where it only divides the declared sizes, these may be padded; of other vendors it knows better.

    Args:
        series: of DICOM. A level that OpenSlide would show wrongly is not used.
    """
    sizes, downsamples, properties = slide.level_dimensions, slide.level_downsamples, slide.properties
    own = [Found(i, Level(w, h, float(downsamples[i])), "") for i, (w, h) in enumerate(sizes)]
    means = [(sizes[0][0] / w + sizes[0][1] / h) / 2 for w, h in sizes]
    if not np.allclose(means, downsamples, rtol=1e-6):
        return own
    spacings: list[float | None] = [None] * len(sizes)
    wrong: set[tuple[int, int]] = set()
    if directory is not None and [(page.width, page.height) for page in directory.pages] == list(sizes):
        spacings = [page.spacing for page in directory.pages]
    elif series:
        wrong = {level.size for level in series if dicom.problem(level)}
        stated = {level.size: level.spacing for level in series}
        once = Counter(level.size for level in series)
        spacings = [stated.get(size) if once[size] == 1 else None for size in sizes]
    declared = []
    for i, (width, height) in enumerate(sizes):
        tile = [int(properties.get(f"openslide.level[{i}].tile-{side}", 0)) for side in ("width", "height")]
        declared.append(Declared(width, height, tile[0], tile[1], spacings[i]))
    found = settle(path, declared)
    used = [each if each.note else own[each.number] for each in found]
    right = [each for each in used if sizes[each.number] not in wrong]
    left = [sizes[each.number] for each in used if sizes[each.number] in wrong]
    return noted(right, left, "OpenSlide would show wrong colours there")


def _bounds(properties: Mapping[str, str], width: int, height: int) -> Bounds | None:
    """The part that was scanned; None if it is not stated, is no part of the slide, or all of it."""
    try:
        x, y, across, down = (
            int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    inside = x >= 0 and y >= 0 and across > 0 and down > 0 and x + across <= width and y + down <= height
    whole = (x, y, across, down) == (0, 0, width, height)
    return Bounds(x, y, across, down) if inside and not whole else None
