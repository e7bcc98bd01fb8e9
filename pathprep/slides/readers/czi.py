"""Reads Zeiss CZI with Zeiss' own library, libCZI (pylibCZIrw), where OpenSlide does not: JPEG XR, for one.

All scenes stand where the microscope saw them; what lies between them is white. A level is one of the
reductions that the file stores.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UnreadableSlide
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers.base import Bounds, Level, Pixels

MAGIC = b"ZISRAWFILE"
INSTALL = "install with the extra czi: pip install 'pathprep[czi]'"
WHITE = (1.0, 1.0, 1.0)
# Of stored reductions: their sizes are rounded, piece by piece
_NEAR = 0.02


class CziReader:
    """A CZI of 24-bit pixels."""

    name = "czi"
    vendor = "zeiss"

    def __init__(self, path: Path) -> None:
        try:
            from pylibCZIrw import czi
        except ModuleNotFoundError:
            raise UnreadableSlide(
                f"{path}: OpenSlide does not read it, and pylibCZIrw is not installed; {INSTALL}"
            ) from None
        self.path = path
        self.bounds: Bounds | None = None
        self.colour = "BGR, 24 bits (CZI's pixel type)"
        self._lock = threading.Lock()  # libCZI decodes in threads of its own
        try:
            self._file: Any = czi.CziReader(str(path))
            self._look()
        except UnreadableSlide:
            raise
        except Exception as error:  # libCZI's are plain ones
            raise UnreadableSlide(
                f"{path}: libCZI cannot open it ({_line(error)}); is it complete?"
            ) from None

    def _look(self) -> None:
        file = self._file
        kinds = set(file.pixel_types.values())
        if kinds != {"Bgr24"} or len(file.pixel_types) != 1:
            found = ", ".join(sorted(map(str, file.pixel_types.values()))) or "none"
            raise UnreadableSlide(
                f"{self.path}: its channels are {found}, one of Bgr24 is read; export it from ZEN with "
                "24-bit pixels"
            )
        ranges = {name: ends for name, ends in file.total_bounding_box.items() if name not in "XYC"}
        several = [f"{high - low} of {name}" for name, (low, high) in ranges.items() if high - low > 1]
        if several:
            raise UnreadableSlide(
                f"{self.path}: holds several planes ({', '.join(several)}), one is read; export one from ZEN"
            )
        whole = file.total_bounding_rectangle_no_pyramid
        self._left, self._top = int(whole.x), int(whole.y)
        width, height = int(whole.w), int(whole.h)
        zooms: list[float] = []

        def note(_: int, block: Any) -> bool:
            zooms.append(float(block.get_zoom()))
            return True  # go on

        file.enumerate_subblocks(note)
        self.levels = [Level(width, height, 1.0)]
        for zoom in sorted(set(zooms), reverse=True):
            by = round(1 / zoom) if zoom else 0
            known = {int(level.downsample) for level in self.levels}
            if by > 1 and abs(by * zoom - 1) < _NEAR and by not in known and min(width, height) >= by:
                self.levels.append(Level(width // by, height // by, float(by)))
        self.notes = [""] * len(self.levels)
        self.header = _header(self.path, width, height, file.metadata)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        by = int(self.levels[level].downsample)
        roi = self._left + x * by, self._top + y * by, width * by, height * by
        try:
            with self._lock:
                bgr = self._file.read(roi=roi, zoom=1 / by, background_pixel=WHITE)
        except Exception as error:
            raise UnreadableSlide(
                f"{self.path}: cannot read {width}x{height} at {x},{y} of level {level} ({_line(error)}); "
                "the file is damaged there, copy it again from its source"
            ) from None
        return np.ascontiguousarray(bgr[:, :, ::-1])

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _header(path: Path, width: int, height: int, metadata: Any) -> Header:
    """What states the resolution: metres per pixel in the metadata's scaling."""
    found = {"zeiss.Scaling.X": None, "zeiss.Scaling.Y": None}
    inside = _dig(metadata, "ImageDocument", "Metadata", "Scaling", "Items", "Distance")
    for item in inside if isinstance(inside, list) else [inside]:
        if isinstance(item, dict) and f"zeiss.Scaling.{item.get('@Id')}" in found:
            found[f"zeiss.Scaling.{item['@Id']}"] = item.get("Value")
    power = _dig(
        metadata, "ImageDocument", "Metadata", "Information", "Instrument", "Objectives", "Objective"
    )
    first = power[0] if isinstance(power, list) and power else power
    magnification = first.get("NominalMagnification") if isinstance(first, dict) else None
    known = {key: str(value) for key, value in found.items() if value is not None}
    if magnification is not None:
        known["openslide.objective-power"] = str(magnification)
    return Header(path, "zeiss", width, height, properties=known)


def _dig(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
