"""Finders of tissue that the bench sets ours beside; each takes an overview and gives a mask, (h, w) bool.

CLAM's by its paper's figures (Lu et al. 2021): HSV saturation, median of 7, above 8, closing by 4; pieces
below 100 and holes below 16 tiles of 512 px at a sixteenth of the resolution. Its variant takes Otsu's
threshold. hs2p's is the package's own function, where the package is installed.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage import color, filters
from tissue_cases import Mask, Pixels

Finder = Callable[[Pixels, float], Mask]


def saturation(pixels: Pixels) -> Pixels:
    """(h, w) HSV saturation, 0 to 255."""
    high, low = pixels.max(2).astype(np.float64), pixels.min(2)
    return np.rint(np.divide(255 * (high - low), high, out=np.zeros_like(high), where=high > 0)).astype(
        np.uint8
    )


def clam(pixels: Pixels, mpp: float, otsu: bool = False) -> Mask:
    """CLAM's finder with its default settings; 16 tiles of 128 um, holes of 4."""
    smooth = ndimage.median_filter(saturation(pixels), 7)
    threshold = filters.threshold_otsu(smooth) if otsu and smooth.min() < smooth.max() else 8
    mask = ndimage.binary_closing(np.pad(smooth > threshold, 4, mode="edge"), np.ones((4, 4), bool))[
        4:-4, 4:-4
    ]
    return _sizes(mask, mpp, 16 * 128.0**2, 4 * 128.0**2)


def clam_otsu(pixels: Pixels, mpp: float) -> Mask:
    """The same with Otsu's threshold, as CLAM's presets for TCGA have it."""
    return clam(pixels, mpp, otsu=True)


def otsu(pixels: Pixels, mpp: float) -> Mask:
    """Otsu on grey levels, the textbook's."""
    grey = color.rgb2gray(pixels)
    flat = grey.min() == grey.max()
    return np.zeros(grey.shape, bool) if flat else np.asarray(grey < filters.threshold_otsu(grey))


def hs2p() -> dict[str, Finder]:
    """The package's finders, HSV (its default) and Otsu; empty where it is not installed.

    Install it apart: ``pip install --target DIR hs2p``, and put DIR on the path.
    """
    try:
        from hs2p.configs import SegmentationConfig  # type: ignore[import-not-found]
        from hs2p.segmentation import segment_tissue_image  # type: ignore[import-not-found]
    except ImportError:
        return {}

    def finder(method: str) -> Finder:
        config = SegmentationConfig(method=method)
        return lambda pixels, _mpp: np.asarray(segment_tissue_image(pixels, config=config) > 0)

    return {f"hs2p {method}": finder(method) for method in ("hsv", "otsu", "threshold")}


def _sizes(mask: Mask, mpp: float, piece: float, hole: float) -> Mask:
    """Without pieces below ``piece`` and holes below ``hole`` square micrometres."""
    mask = _without_small(mask, piece / mpp**2)
    return ~_without_small(~mask, hole / mpp**2)


def _without_small(mask: Mask, pixels: float) -> Mask:
    labels, count = ndimage.label(mask)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= pixels
    keep[0] = False
    return np.asarray(keep[labels])
