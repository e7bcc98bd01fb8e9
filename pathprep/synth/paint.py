"""A window of the slide as a scanner sees it: concentrations, optical blur, Beer-Lambert, sensor noise.

    I = I0 * exp(-HE c), c = gain * (H, E)

Any window can be painted on its own, also outside of the slide, and overlapping windows agree.
"""

import numpy as np
import numpy.typing as npt

from pathprep.synth.ground import Plane, lay_ground
from pathprep.synth.objects import GLANDS, VESSELS, scatter
from pathprep.synth.scene import FAT, LYMPHOCYTES, NECROSIS, STROMA, TUMOUR, Array, Scene, jit, mix

_NOISE_SEED = np.uint64(0x5EED0FCA3E12A001)
_BYTE = np.uint64(255)


@jit
def concentrations(scene: Scene, x0: int, y0: int, scale: float, hs: Plane, es: Plane) -> None:
    """Fill planes (rows, columns) with H and E from pixel (x0, y0) on; a pixel is ``scale`` x 0.5 um."""
    lay_ground(scene, x0, y0, scale, hs, es)
    scatter(scene, STROMA, 34.0, 16.0, x0, y0, scale, hs, es)
    scatter(scene, FAT, 20.0, 8.0, x0, y0, scale, hs, es)
    scatter(scene, LYMPHOCYTES, 14.5, 10.0, x0, y0, scale, hs, es)
    scatter(scene, VESSELS, 330.0, 60.0, x0, y0, scale, hs, es)
    scatter(scene, GLANDS, 158.0, 135.0, x0, y0, scale, hs, es)
    scatter(scene, TUMOUR, 22.0, 15.0, x0, y0, scale, hs, es)
    scatter(scene, NECROSIS, 20.0, 8.0, x0, y0, scale, hs, es)


@jit
def paint(
    scene: Scene, scale: float, he: Array, gain: Array, white: Array, fade: Plane, x0: int, y0: int,
    out: npt.NDArray[np.uint8],
) -> None:  # fmt: skip
    """Fill ``out`` (H, W, 3) with the slide from pixel (x0, y0) on.

    he (3, 2) stain vectors, gain (2,) on the concentrations, white (3,) background, fade exp(-OD) in
    steps of 1 / 1024, long enough for the largest OD.
    """
    rows, columns = out.shape[0], out.shape[1]
    hs = np.empty((rows + 2, columns + 2), np.float32)
    es = np.empty((rows + 2, columns + 2), np.float32)
    concentrations(scene, x0 - 1, y0 - 1, scale, hs, es)
    top = fade.shape[0] - 1
    h_line, e_line = np.empty(columns + 2, np.float32), np.empty(columns + 2, np.float32)
    f = (1024.0 / 16.0 * he * gain).astype(np.float32)
    w = white.astype(np.float32)
    for row in range(rows):
        for column in range(columns + 2):
            h_line[column] = hs[row, column] + np.float32(2.0) * hs[row + 1, column] + hs[row + 2, column]
            e_line[column] = es[row, column] + np.float32(2.0) * es[row + 1, column] + es[row + 2, column]
        line = mix(_NOISE_SEED ^ scene.seed + np.uint64(y0 + row))
        for column in range(columns):
            h = h_line[column] + np.float32(2.0) * h_line[column + 1] + h_line[column + 2]
            e = e_line[column] + np.float32(2.0) * e_line[column + 1] + e_line[column + 2]
            bits = mix(line + np.uint64(x0 + column))
            for k in range(3):
                # Sum of two bytes: triangular noise, standard deviation about 1 grey level.
                grain = np.float32(
                    int(bits & _BYTE) + int((bits >> np.uint64(8)) & _BYTE) - 255
                ) * np.float32(0.0096)
                bits >>= np.uint64(16)
                od = int(f[k, 0] * h + f[k, 1] * e + np.float32(0.5))
                value = w[k] * fade[min(od, top)] + grain
                out[row, column, k] = np.uint8(
                    min(np.float32(255.0), max(np.float32(0.0), value + np.float32(0.5)))
                )
