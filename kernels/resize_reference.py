"""A crop box of a tile, resized, in float64 numpy: the definition that the fast versions are held to.

    out = W(y) . tile . W(x)', rounded to the nearest level of 0 to 255

Row i of W weighs the pixels of an axis for output pixel i, with Keys' cubic (1981, a = -1/2) around the
pixel's middle in the tile. Where the picture shrinks the cubic is as much wider, so that nothing is left out;
as Pillow's and DALI's antialiased resizing. Pixels beyond the box count; beyond the tile its edge goes on.

A box whose end comes before its start is mirrored.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


def apply(tile: Bytes, start: Floats, end: Floats, size: int) -> Bytes:
    """A view (size, size, 3) of a tile (H, W, 3).

    Args:
        start, end: corners (2,) of the box, y then x, as shares of the tile's sides, 0 to 1.
    """
    down, across = (
        weights(length * float(low), length * float(high), length, size)
        for length, low, high in zip(tile.shape, start, end, strict=False)
    )
    exact = np.einsum("iy,yxc,jx->ijc", down, tile.astype(np.float64), across, optimize=True)
    return np.asarray(np.clip(np.floor(exact + 0.5), 0, 255), np.uint8)


def weights(start: float, end: float, length: int, size: int) -> Floats:
    """W (size, length), each row of sum 1, for a box from start to end in pixels."""
    scale = (end - start) / size
    middles = start + (np.arange(size) + 0.5) * scale
    wide = max(abs(scale), 1.0)
    reach = int(np.ceil(2 * wide)) + 1
    pixels = np.floor(middles).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    found = cubic((pixels + 0.5 - middles[:, None]) / wide)
    out = np.zeros((size, length))
    np.add.at(out, (np.arange(size)[:, None], np.clip(pixels, 0, length - 1)), found)
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def cubic(x: Floats) -> Floats:
    """Keys' kernel, a = -1/2."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.asarray(np.where(x < 1, near, np.where(x < 2, far, 0)))
