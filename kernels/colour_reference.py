"""Colour jitter of a view in float64 numpy: the definition that the fast versions are held to.

    1.  x = M . rgb + t . mean(rgb)       brightness, contrast, saturation, in this order: each is linear, and
                                          contrast is around the view's mean luminance; clipped to 0 to 255
    2.  hue turned by a share of the circle of HSV, saturation and value kept
    3.  grey: each channel becomes the luminance of x
    4.  rounded to the nearest level

As torchvision's adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue and rgb_to_grayscale, which
truncate to a grey level and clip after each.

A view's settings are one row of SETTINGS float32: M by rows (9), t (3), hue -0.5 to 0.5, grey 0 or 1.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

SETTINGS = 14
UNCHANGED = np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0], np.float32)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, which PIL and torchvision use


def settings(brightness: Floats, contrast: Floats, saturation: Floats, hue: Floats, grey: Floats) -> Floats:
    """(B, SETTINGS) of B views from torchvision's factors (B,), 1 for no change, and hue and grey (B,)."""
    # saturation blends with the luminance
    matrix = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * LUMA
    matrix *= (brightness * contrast)[:, None, None]
    # an equal offset in R, G and B is luminance: saturation leaves it alone
    offset = (brightness * (1 - contrast))[:, None] * LUMA
    return np.concatenate([matrix.reshape(-1, 9), offset, hue[:, None], grey[:, None]], axis=1)


def apply(view: Bytes, setting: Floats) -> Bytes:
    """Steps 1 to 4 on one view (H, W, 3)."""
    matrix, offset, hue, grey = setting[:9].reshape(3, 3), setting[9:12], setting[12], setting[13]
    x = np.clip(view @ matrix.T + view.mean(axis=(0, 1)) @ offset, 0, 255)
    if hue:
        x = turned(x, hue)
    if grey:
        x = np.repeat((x @ LUMA)[..., None], 3, axis=2)
    return np.asarray(np.floor(x + 0.5), np.uint8)


def turned(x: Floats, hue: float) -> Floats:
    """Step 2 on colours (..., 3)."""
    r, g, b = np.moveaxis(x, -1, 0)
    value, chroma = x.max(axis=-1), np.ptp(x, axis=-1)
    sector = np.where(value == r, g - b, np.where(value == g, b - r, r - g))
    sector = sector / np.where(chroma, chroma, 1) + np.where(value == r, 0, np.where(value == g, 2, 4))
    places = (sector[..., None] + 6 * hue + np.array([5, 3, 1])) % 6
    return np.asarray(value[..., None] - chroma[..., None] * np.clip(np.minimum(places, 4 - places), 0, 1))
