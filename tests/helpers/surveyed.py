"""Small slides with a survey of them, and recipes that draw from it."""

from collections.abc import Sequence
from pathlib import Path

import pathprep
from helpers.slides import tissue, write_tiff

# Tiles of 64 px at 0.5 MPP of slides that are drawn, whose pixels are pink enough
ONLINE = (
    "online.tile=64",
    "online.hsv=0.3",
    "online.tries=4",
    "online.readers=2",
    "sampling.mpps={0.5: 2, 1: 1}",
)
NAMES = ("a", "b", "c", "d")


def survey(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """Slides of these names in FOLDER/slides, surveyed into FOLDER/survey, which is returned."""
    slides = folder / "slides"
    slides.mkdir()
    for number, name in enumerate(names):
        pixels = tissue(400 + 60 * number, 500, seed=number, margin=60)
        write_tiff(slides / f"{name}.tif", pixels, levels=2, mpp=0.5)
    pathprep.survey(slides, folder / "survey", workers=1)
    return folder / "survey"
