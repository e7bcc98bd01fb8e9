"""Reads with OpenSlide what cuCIM does not: NDPI, MRXS, SCN, BIF, DICOM, other compressions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide

from pathprep.errors import UnreadableSlide
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers.base import Bounds, Level, Pixels
from pathprep.slides.readers.directory import Directory


class OpenSlideReader:
    """A slide opened by OpenSlide."""

    name = "openslide"

    def __init__(self, path: Path, directory: Directory | None = None) -> None:
        self.path = path
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise UnreadableSlide(
                f"{path}: OpenSlide cannot open it ({error}); is it a complete slide?"
            ) from None
        properties = self._slide.properties
        self.vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.levels = [
            Level(w, h, float(d))
            for (w, h), d in zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        ]
        self.header = (
            directory.header.opened(self.vendor, properties)
            if directory
            else Header.of_openslide(path, self.vendor, self._slide.dimensions, properties)
        )
        self.bounds = _bounds(properties, *self._slide.dimensions)
        background = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
        self._background = np.frombuffer(bytes.fromhex(background), np.uint8).astype(np.uint16)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        scale = self.levels[level].downsample
        try:
            region = self._slide.read_region((round(x * scale), round(y * scale)), level, (width, height))
        except openslide.OpenSlideError as error:
            raise UnreadableSlide(
                f"{self.path}: cannot read {width}x{height} at {x},{y} of level {level} ({error})"
            ) from None
        rgba = np.asarray(region)
        if rgba[:, :, 3].min() == 255:
            return np.ascontiguousarray(rgba[:, :, :3])
        # Areas that the scanner did not cover are transparent: they become the slide's background colour
        alpha = rgba[:, :, 3:].astype(np.uint16)
        blended = (rgba[:, :, :3] * alpha + self._background * (255 - alpha) + 127) // 255
        return blended.astype(np.uint8)

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


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
