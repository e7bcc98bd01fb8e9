"""Reads tiled 8-bit RGB TIFF and SVS with cuCIM, on the CPU; in blocks, several times OpenSlide's speed.

JPEG tiles are read by tiff.py, which notices damage that cuCIM does not.
"""

import sys
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UnreadableSlide, UsageError
from pathprep.slides.readers.base import Bounds, Pixels
from pathprep.slides.readers.directory import Directory
from pathprep.slides.readers.page import JPEG, LZW, NONE, RGB, YCBCR

# TIFF compressions that cuCIM's default plugin decodes correctly: none, LZW, JPEG, and Aperio JPEG 2000 (RGB)
COMPRESSIONS = frozenset({NONE, LZW, JPEG, 33005})


class CucimReader:
    """A slide opened by cuCIM."""

    name = "cucim"
    loaded = False

    def __init__(self, path: Path, directory: Directory | None = None) -> None:
        reason = "it is no tiled TIFF" if directory is None else refusal(directory)
        if directory is None or reason:
            raise UnreadableSlide(f"{path}: the reader cucim does not read it ({reason}); use `reader` auto")
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
        self._downsamples = [float(d) for d in self._image.resolutions["level_downsamples"]]
        sizes = [tuple(size) for size in self._image.resolutions["level_dimensions"]]
        declared = [(page.width, page.height) for page in directory.pages]
        if sizes != declared and not (directory.subifds and sizes == declared[:1]):
            raise UnreadableSlide(
                f"{path}: cuCIM sees levels of {sizes} px where {declared} are declared; use `reader` auto"
            )
        self.levels, self.notes = directory.levels[: len(sizes)], directory.notes[: len(sizes)]
        self.colour = directory.colour
        self.bounds: Bounds | None = None  # the files that it is given are whole
        self.header = directory.header

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        # cuCIM takes the position in level-0 pixels and truncates when it goes back to the level's own
        scale = self._downsamples[level]
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


def refusal(directory: Directory) -> str:
    """Why cuCIM is not given the file; empty if it reads it right.

    It crashes or shows wrong pixels where other tiles are in it: those of libvips' deflate end the process,
    alpha is dropped, and a tag with the wrong colours is believed.
    """
    wrong = directory.wrong_tag
    if wrong is not None:
        return f"it would believe the tag that says {wrong.tag}; the tiles hold {wrong.colour}"
    if not directory.ours or directory.vendor == "philips":
        return f"its vendor is {directory.vendor}"
    for page in directory.pages:
        raw = page.photometric == YCBCR and page.compression in (NONE, LZW)  # shown as if it were RGB
        if not page.plain or page.photometric not in (RGB, YCBCR) or raw:
            return f"its tiles hold {page.colour}, {page.samples} samples{' apart' if page.planar else ''}"
        if page.compression not in COMPRESSIONS or page.predictor not in (0, 1):
            return f"its compression is {page.compression}"
    return ""
