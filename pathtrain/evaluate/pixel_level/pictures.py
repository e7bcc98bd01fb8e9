"""Pictures of test images: the image, the truth, and what each kind of features makes of it."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pathprep.storage import atomic
from pathtrain.data.segmented.truth import IGNORED, Classes
from pathtrain.images import Pixels

# Told apart also by those who do not see red or green (Okabe and Ito 2008); then evenly spread hues
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
GREY = (160, 160, 160)
SEEN, LINE, GAP = 0.55, 18, 4  # share of the colour; pixels of a line of text, and between panels
WIDEST = 512  # pixels of a panel


def palette(classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """(256, 3) RGB by class number; the background's is not used."""
    found = np.full((256, 3), 0, np.uint8)
    for place in range(1, len(classes)):
        code = COLOURS[(place - 1) % len(COLOURS)]
        found[place] = [int(code[at : at + 2], 16) for at in (1, 3, 5)]
    found[IGNORED] = GREY
    return found


def draw(
    path: Path, image: Pixels, panels: Mapping[str, Classes], classes: Sequence[str], title: str
) -> None:
    """Write panels side by side, and below them which colour is which class.

    Args:
        image: (H, W, 3). panels: name -> (H, W) class numbers. title: what the image is called.
    """
    colours = palette(classes)
    scale = min(1.0, WIDEST / max(image.shape[:2]))
    side = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    drawn = {title: image}
    for name, numbers in panels.items():
        tinted = (1 - SEEN) * image + SEEN * colours[numbers]
        drawn[name] = np.where((numbers > 0)[..., None], tinted, image).astype(np.uint8)
    width = len(drawn) * (side[0] + GAP) - GAP
    canvas = Image.new("RGB", (width, side[1] + 2 * LINE), "white")
    pen = ImageDraw.Draw(canvas)
    for place, (name, pixels) in enumerate(drawn.items()):
        left = place * (side[0] + GAP)
        canvas.paste(Image.fromarray(pixels).resize(side, Image.Resampling.BOX), (left, LINE))
        pen.text((left + 2, 3), _fitting(name, side[0]), fill="black")
    at = 2
    for place, name in enumerate(classes[1:], start=1):
        pen.rectangle(
            (at, side[1] + LINE + 4, at + 10, side[1] + LINE + 14), fill=tuple(colours[place].tolist())
        )
        pen.text((at + 14, side[1] + LINE + 3), name, fill="black")
        at += 22 + round(pen.textlength(name))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, buffer.getvalue())


def _fitting(name: str, width: int) -> str:
    most = max(width // 6, 4)  # pixels of a letter
    return name if len(name) <= most else f"...{name[-(most - 3) :]}"
