"""Reads tiled 8-bit RGB TIFF and SVS with cuCIM, on the CPU; in blocks, several times OpenSlide's speed.

JPEG tiles are read by jpeg_tiff.py, which notices damage that cuCIM does not.
"""

import sys
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UnreadableSlide, UsageError
from pathprep.slides.readers.base import Bounds, Level, Pixels, resolution


class CucimReader:
    """A slide opened by cuCIM."""

    name = "cucim"
    loaded = False

    def __init__(self, path: Path) -> None:
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
        # not cuCIM's `spacing()`: that is 1.0 for Aperio files, whose MPP stands in the description
        tiff = metadata.get("tiff", {})
        self.resolution = resolution(
            metadata.get("aperio", {}).get("MPP"),
            tiff.get("resolution_unit"),
            tiff.get("x_resolution"),
            tiff.get("y_resolution"),
        )

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
