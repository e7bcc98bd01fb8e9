"""One stored image to pixels, and to the square that a network takes."""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pathprep.errors import DatasetError
from pathprep.images import jpeg, pictures

Pixels = npt.NDArray[np.uint8]


def decode(data: bytes, name: str) -> Pixels:
    """(H, W, 3) uint8 of a JPEG, or of what else pathprep.images.pictures reads, as it reads it.

    Raises:
        DatasetError: the bytes are not such an image; it names the tile.
    """
    try:
        return jpeg.decode(data) if data[:2] == b"\xff\xd8" else pictures.decode(data)
    except ValueError as error:
        raise DatasetError(f"{name}: cannot be decoded ({error})") from None


def resize(image: Pixels, size: int) -> Pixels:
    """(size, size, 3): bicubic with antialiasing, as Pillow does it to one grey level."""
    if image.shape[:2] == (size, size):
        return image
    return _scaled(image, size, size)


def resize_and_crop(image: Pixels, short: int, size: int) -> Pixels:
    """The centre (size, size, 3) of the image scaled until its shorter side is ``short``: torchvision's
    Resize and CenterCrop, the usual preparation of linear evaluation; ``size`` is at most ``short``.
    """
    height, width = image.shape[:2]
    least = min(height, width)
    if least != short:
        image = _scaled(image, int(short * height / least), int(short * width / least))
    top, left = (round((side - size) / 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def _scaled(image: Pixels, height: int, width: int) -> Pixels:
    # pixels stay interleaved, as torch sees if the batch is there first: then nothing is copied, and no team
    # of threads begun for it in each thread that decodes
    tensor = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    small = functional.interpolate(tensor, size=(height, width), mode="bicubic", antialias=True)
    return small[0].permute(1, 2, 0).contiguous().numpy()
