"""What colour and fine texture alone say of a tile: numbers that no network has learnt.

Uniform, rotation-invariant local binary patterns (Ojala, Pietikäinen & Mäenpää 2002, LBP riu2): each pixel
of the grey tile is compared with P points on a circle around it, with bilinear interpolation; a circle with
at most two changes between darker and not darker is told by how many points are not darker, all others are
one class. The shares of the P + 2 classes describe a tile, whatever its size. As
skimage.feature.local_binary_pattern with ``uniform``, but without the pixels whose circle leaves the tile,
and on the device of the networks.
"""

import math

import torch
from torch import Tensor

SCALES = ((8, 1), (16, 2))  # points and radius in pixels, of the paper's first two scales
GREY = (0.2125, 0.7154, 0.0721)  # Rec. 709, as scikit-image
TIE = 1e-3  # grey levels; closer is equal, whatever the device's rounding

COLOURS = 6
PATTERNS = sum(points + 2 for points, _ in SCALES)


def colours(images: Tensor) -> Tensor:
    """(B, 6): mean and SD of red, green and blue of images (B, 3, H, W), in their unit."""
    return torch.cat(torch.std_mean(images, dim=(2, 3), correction=0)[::-1], dim=1)


def patterns(images: Tensor) -> Tensor:
    """(B, 28) shares of the patterns at both scales.

    Args:
        images: (B, 3, H, W) float32, 0 to 1, at least 5 pixels high and wide.
    """
    weights = torch.tensor(GREY, device=images.device)[:, None, None]
    grey = (images * 255 * weights).sum(dim=1).round()
    return torch.cat([_shares(grey, points, radius) for points, radius in SCALES], dim=1)


def _shares(grey: Tensor, points: int, radius: int) -> Tensor:
    count, height, width = grey.shape
    rows, columns = height - 2 * radius, width - 2 * radius
    centre = grey[:, radius : radius + rows, radius : radius + columns] - TIE
    ahead, changes, first, last = torch.zeros_like(centre), torch.zeros_like(centre), None, None
    for point in range(points):
        angle = 2 * math.pi * point / points
        bit = _shifted(
            grey, radius - radius * math.sin(angle), radius + radius * math.cos(angle), rows, columns
        )
        bit = bit >= centre
        ahead += bit
        if last is not None:
            changes += bit != last
        first, last = bit if first is None else first, bit
    changes += first != last
    pattern = torch.where(changes <= 2, ahead, points + 1).long().flatten(1)
    pattern += (points + 2) * torch.arange(count, device=grey.device)[:, None]
    found = torch.bincount(pattern.flatten(), minlength=count * (points + 2))
    return found.view(count, points + 2) / (rows * columns)


def _shifted(grey: Tensor, top: float, left: float, rows: int, columns: int) -> Tensor:
    """A part of the images that begins between pixels."""
    top, left = round(top, 5), round(left, 5)  # sines that are whole but for rounding are whole
    y, x = math.floor(top), math.floor(left)
    found = torch.zeros_like(grey[:, :rows, :columns])
    for dy, share_y in ((0, 1 - (top - y)), (1, top - y)):
        for dx, share_x in ((0, 1 - (left - x)), (1, left - x)):
            if share_y * share_x:
                found += share_y * share_x * grey[:, y + dy : y + dy + rows, x + dx : x + dx + columns]
    return found
