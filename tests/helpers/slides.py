"""Small slides for tests: any pixels as a tiled JPEG TIFF, and a field that looks like tissue on glass."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile
from scipy.ndimage import gaussian_filter

Pixels = npt.NDArray[np.uint8]


def tissue(height: int, width: int, seed: int = 0, margin: int = 0) -> Pixels:
    """Two stains over glass, (height, width, 3) uint8; ``margin`` pixels of glass on every side."""
    rng = np.random.default_rng(seed)
    he = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    low = rng.random((2, height // 16 + 2, width // 16 + 2))
    smooth = np.kron(low, np.ones((1, 16, 16)))[:, :height, :width]
    density = np.stack([1.6 * smooth[0] ** 2, 0.3 + 0.7 * smooth[1]], -1) + 0.1 * rng.random(
        (height, width, 2)
    )
    if margin:
        glass = np.ones((height, width), bool)
        glass[margin:-margin, margin:-margin] = False
        density[glass] = 0.0
    return np.clip(242 * np.exp(-density @ he), 0, 255).astype(np.uint8)


FLAWED_SIDE = 64
# columns of tiles of a flawed slide, of 10 with 6 rows -> what is wrong with them
FLAWS = {1: "blurred", 3: "pen", 5: "white", 7: "hsv"}


def flawed() -> Pixels:
    """Tissue, with columns of tiles that are out of focus, painted, mostly white, and brown.

    The first two rows of the last two columns have one colour: no focus, and no stains to be told apart.
    """
    side = FLAWED_SIDE
    pixels = tissue(6 * side, 10 * side, seed=5)
    columns = {reason: slice(column * side, (column + 1) * side) for column, reason in FLAWS.items()}
    blurred = pixels[:, columns["blurred"]]
    blurred[:] = gaussian_filter(blurred, (4, 4, 0))
    pixels[:, columns["pen"]][:, 16:48] = (30, 120, 70)
    pixels[:, columns["white"]][:, 20:] = 240
    brown = np.random.default_rng(0).uniform(0.2, 1.2, (6 * side, side, 1)) * (0.27, 0.57, 0.78)
    pixels[:, columns["hsv"]] = (240 * np.exp(-brown)).astype(np.uint8)
    pixels[: 2 * side, 8 * side :] = (180, 130, 200)
    return pixels


def write_tiff(
    path: Path,
    pixels: Pixels,
    *,
    mpp: float | tuple[float, float] | None = 0.5,
    tile: int = 240,
    levels: int = 1,
    description: str | None = None,
) -> Path:
    """Write a pyramid as scanners do: YCbCr 4:2:0 JPEG tiles, each level half the last."""
    resolution = None
    if mpp is not None:
        x, y = (mpp, mpp) if isinstance(mpp, float) else mpp
        resolution = (1e4 / x, 1e4 / y)
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            reduced = pixels[:: 2**level, :: 2**level]
            tiff.write(
                _encoded(reduced, tile),
                shape=reduced.shape,
                dtype=np.uint8,
                tile=(tile, tile),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                resolution=resolution if level == 0 else None,
                resolutionunit="CENTIMETER" if resolution and level == 0 else None,
                description=description if level == 0 else None,
                subfiletype=int(level > 0),
                metadata=None,
            )
    return path


def _encoded(pixels: Pixels, tile: int):  # noqa: ANN202 - an iterator of bytes, as tifffile takes it
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge")
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            part = np.ascontiguousarray(padded[y : y + tile, x : x + tile])
            yield simplejpeg.encode_jpeg(part, 95, "RGB", "420")
