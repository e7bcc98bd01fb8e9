"""Fits that pass the kernels' limits and would spoil a tile all the same. The one place for every engine.

Two things are asked, of the fits (N, 3, 2), (N, 2) and of a few pixels of each tile:

- Glass stays white. Where two vectors are those of one stain, their difference is noise, and white glass
  may become blue or pink. A fit to which the field's reference gives white (255) an optical density above
  GLASS is refused: 225 grey levels of 240 in one channel. Nuclei alone on glass come to 170 to 240; of 4,400
  fits of real H&E tiles (TCGA, CMU, CAMELYON17's centres, LC25000 with strong casts, EBHI, AMi-Br, MoNuSAC,
  CoNSeP) the lowest is 226, one in a hundred below 243.
- Light passes the background. Under fluorescence what is not stained is black, and every pixel looks dense.
  A tile where fewer than one pixel in a hundred has all its channels above DARK of the light is refused: 40
  grey levels of 240. That percentile is 112 and above on the same real tiles, below 30 on fluorescence.
"""

from typing import Any

import numpy as np

from pathprep.params.stain import REFERENCE

GLASS = 0.065  # optical density; white's own is -0.065 where the light is 240
DARK = 1 / 6  # share of the transmitted light
LIGHT_SHARE = 0.01  # of the pixels
SAMPLE = 64  # rows and columns of a tile that are looked at, about


def refused(xp: Any, batches: list[Any], he: Any, max_c: Any, io: float) -> Any:
    """(N,) bool: which fits would spoil their tiles; for what is not fitted (zeros), anything.

    Args:
        xp: numpy or cupy.
        batches: the tiles, arrays (n, H, W, 3) uint8 with N in all.
        he, max_c: (N, 3, 2) and (N, 2). io: transmitted light, grey levels.
    """
    dark = [_dark(batch, io) for batch in batches]
    return _stains_glass(xp, he, max_c, io) | xp.concatenate([*dark, xp.zeros(0, bool)])


def _stains_glass(xp: Any, he: Any, max_c: Any, io: float) -> Any:
    cosine = (he[:, :, 0] * he[:, :, 1]).sum(1)
    sums = he.sum(1)  # (N, 2): H^T of a grey of optical density 1
    amounts = (sums - cosine[:, None] * sums[:, ::-1]) / xp.maximum(1 - cosine**2, 1e-12)[:, None]
    scale = xp.asarray(REFERENCE["max_c"]) / xp.where(max_c > 0, max_c, 1.0)
    white = -np.log(256 / io) * ((amounts * scale) @ xp.asarray(REFERENCE["he"]).T)
    return white.max(1) > GLASS


def _dark(batch: Any, io: float) -> Any:
    down, across = (max(1, side // SAMPLE) for side in batch.shape[1:3])
    some = batch[:, ::down, ::across]
    light = (some[..., 0] > DARK * io) & (some[..., 1] > DARK * io) & (some[..., 2] > DARK * io)
    return light.mean((1, 2)) < LIGHT_SHARE
