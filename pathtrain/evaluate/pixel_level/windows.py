"""Windows of images: what a network and a decoder see at once, resized to one size.

windows   beside each other, the last ones moved in so that the whole image is covered; kaiko eva's leave
          such edges out, which of CoNSeP's 1,000 px by windows of 250 there are none
crops     as eva has MoNuSAC: to train on, random parts of .08 to 1 of an image, 3:4 to 4:3, resized to a
          square; to test on, the central square. eva draws new parts at every step; here so many of each
          image are kept, so that they need to be encoded only once
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pathtrain.data.segmented.images import Images
from pathtrain.data.segmented.truth import Truth
from pathtrain.images import Pixels
from pathtrain.stain.normaliser import Normaliser

Ints = npt.NDArray[np.int64]
WIDER = 1.25  # times a window: a narrower image is one, not two that are nearly the same
SHARE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # of random crops: torchvision's RandomResizedCrop


class Box(NamedTuple):
    """A part of an image, pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Windows:
    """N windows of the images of a side.

    Attributes:
        images: that they are of. image: (N,) number of the image of each. boxes: (N) place in it.
        pixels: (N, S, S, 3) uint8. classes: (N, S, S) uint8, nearest neighbour. Both on the disk.
        normaliser: what their stain was normalised by.
        drawn: whether they are random parts, of which an epoch has one of each image.
    """

    images: Images
    image: Ints
    boxes: list[Box]
    pixels: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.uint8]
    normaliser: Normaliser | None
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.boxes)

    def area(self, number: int) -> Box:
        """The part of an image that its windows cover."""
        boxes = [self.boxes[row] for row in np.flatnonzero(self.image == number)]
        top, left = min(box.top for box in boxes), min(box.left for box in boxes)
        bottom = max(box.top + box.height for box in boxes)
        return Box(top, left, bottom - top, max(box.left + box.width for box in boxes) - left)


def side_by_side(height: int, width: int, side: int, overlap: int = 0) -> list[Box]:
    """Squares that cover an image; of an image that is narrower, or hardly wider, of its width."""
    least = min(height, width)
    side = least if least <= side * WIDER else side
    step = max(side - overlap, 1)
    starts = [
        [min(start, length - side) for start in range(0, length - side + step, step)]
        for length in (height, width)
    ]
    return [Box(top, left, side, side) for top in starts[0] for left in starts[1]]


def centre(height: int, width: int) -> list[Box]:
    """The central square."""
    side = min(height, width)
    return [Box(round((height - side) / 2), round((width - side) / 2), side, side)]


def random_crops(height: int, width: int, count: int, rng: np.random.Generator) -> list[Box]:
    """Parts of an image as torchvision's RandomResizedCrop draws them."""
    found: list[Box] = []
    while len(found) < count:
        for _ in range(TRIES):
            share = height * width * rng.uniform(*SHARE)
            ratio = np.exp(rng.uniform(*np.log(RATIO)))
            wide, high = round(np.sqrt(share * ratio)), round(np.sqrt(share / ratio))
            if 0 < wide <= width and 0 < high <= height:
                top, left = rng.integers(height - high + 1), rng.integers(width - wide + 1)
                found.append(Box(int(top), int(left), high, wide))
                break
        else:  # the whole, as far as the ratio allows
            high, wide = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
            found.append(Box((height - high) // 2, (width - wide) // 2, high, wide))
    return found


def cut(
    images: Images,
    boxes: Sequence[Sequence[Box]],
    size: int,
    folder: Path,
    normaliser: Normaliser | None = None,
    drawn: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Windows:
    """Cut windows and resize them, the image bilinearly with antialiasing, as eva does, the mask to nearest.

    Args:
        boxes: of each image. size: S. folder: that the windows lie in.
        normaliser: of the stain of whole images, before they are cut. drawn: whether boxes are random.

    Raises:
        DatasetError: an image is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(map(len, boxes))
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (total, size, size, 3))
    classes = np.lib.format.open_memmap(folder / "classes.npy", "w+", np.uint8, (total, size, size))
    row = 0
    for number, own in enumerate(boxes):
        whole, truth = images.pixels(number), images.truth(number)
        if normaliser is not None:
            whole = normaliser(whole, None, number)
        for box in own:
            pixels[row], classes[row] = window(whole, truth, box, size)
            row += 1
        advance(len(own))
    image = np.repeat(np.arange(len(boxes)), [len(own) for own in boxes])
    flat = [box for own in boxes for box in own]
    return Windows(images, image, flat, pixels, classes, normaliser, drawn)


def window(whole: Pixels, truth: Truth, box: Box, size: int) -> tuple[Pixels, npt.NDArray[np.uint8]]:
    """Pixels (S, S, 3) and classes (S, S) of a part of an image."""
    part = whole[box.top : box.top + box.height, box.left : box.left + box.width]
    mask = truth.part(*box).classes
    if (box.height, box.width) == (size, size):
        return part, mask
    picture = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None]
    small = functional.interpolate(picture, size=(size, size), mode="bilinear", antialias=True)
    numbers = torch.from_numpy(np.ascontiguousarray(mask))[None, None]
    nearest = functional.interpolate(numbers, size=(size, size), mode="nearest")
    return small[0].permute(1, 2, 0).contiguous().numpy(), nearest[0, 0].numpy()
