"""Reads tiled 8-bit RGB TIFF and SVS with cuCIM, on the CPU; in blocks, several times OpenSlide's speed.

JPEG tiles are read by jpeg_tiff.py, which notices damage that cuCIM does not.
"""

import sys
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UnreadableSlide, UsageError
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers.base import Bounds, Level, Pixels
from pathprep.slides.readers.directory import Directory


class CucimReader:
    """A slide opened by cuCIM."""

    name = "cucim"
    loaded = False

    def __init__(self, path: Path, directory: Directory | None = None) -> None:
        _refuse_to_hang()
        try:
            from cucim.clara import CuImage
        except ImportError as error:
            raise UsageError(
                f"cuCIM is not installed ({error}): install with the extra cuda13 or cuda12, "
                "both also run without a GPU, or use `reader` openslide"
            ) from None
        self.path = path
        CucimReader.loaded = True
        try:
            self._image = CuImage(str(path))
        except (RuntimeError, ValueError) as error:
            raise UnreadableSlide(f"{path}: cuCIM cannot open it ({error}); is it complete?") from None
        metadata: dict[str, Any] = self._image.metadata
        self.vendor = "aperio" if "aperio" in metadata else "generic-tiff"
        self.levels = _levels(self._image.resolutions)
        self.bounds: Bounds | None = None  # the files that it is given are whole
        self.header = directory.header if directory else _header(self._image, path, self.vendor)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        # cuCIM takes the position in level-0 pixels and truncates when it goes back to the level's own
        scale = self.levels[level].downsample
        try:
            region = self._image.read_region((ceil(x * scale), ceil(y * scale)), (width, height), level)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise UnreadableSlide(
                f"{self.path}: cannot read {width}x{height} at {x},{y} of level {level} ({error})"
            ) from None
        return np.asarray(region)[:, :, :3]

    def close(self) -> None:
        """Release the file."""
        self._image.close()


def _refuse_to_hang() -> None:
    """cuCIM's libraries start cuFile when they load; where torch has loaded its own and there is no GPU,
    that never returns. They load with the first slide that is opened."""
    torch = sys.modules.get("torch")
    if torch is not None and not CucimReader.loaded and not torch.cuda.is_available():
        raise UsageError(
            "torch is loaded and cuCIM is not: without a GPU, loading it now would never return; "
            "open the first slide before importing torch, or use the reader openslide"
        )


def _levels(resolutions: dict[str, Any]) -> list[Level]:
    sizes = resolutions["level_dimensions"]
    return [Level(w, h, float(d)) for (w, h), d in zip(sizes, resolutions["level_downsamples"], strict=True)]


def _header(image: Any, path: Path, vendor: str) -> Header:
    """What states the resolution of a file that tifffile does not understand.

    Not cuCIM's ``spacing()``: that is 1.0 for Aperio files, whose MPP stands in the description.
    """
    tiff: dict[str, Any] = image.metadata.get("tiff", {})
    width, height = image.resolutions["level_dimensions"][0]
    names = ("x_resolution", "y_resolution", "resolution_unit")
    x, y, unit = (tiff.get(name) for name in names)
    return Header(path, vendor, width, height, str(image.raw_metadata or ""), x=x, y=y, unit=unit)
