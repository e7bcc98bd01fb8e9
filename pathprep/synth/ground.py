"""The ground substance of each compartment: concentrations of haematoxylin and eosin without any cells.

Lengths are in reference pixels of 0.5 um; H and E are concentrations >= 0.
"""

import math

import numpy as np
import numpy.typing as npt

from pathprep.synth.scene import (
    FAT,
    LYMPHOCYTES,
    NECROSIS,
    OUTSIDE,
    TUMOUR,
    Scene,
    cell_hash,
    class_of,
    jit,
    locate,
    noise,
    unit,
)

Plane = npt.NDArray[np.float32]

BLOCK = 16  # where the four corners of such a square lie in one region, so does all of it
NEST = 0.95  # above this value of its noise a tumour gives way to a septum of stroma


@jit
def soft_step(low: float, high: float, value: float) -> float:
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


@jit
def fibre_angle(scene: Scene, key: int) -> float:
    return math.pi * unit(cell_hash(scene.seed, 2, key, 0), 0)


@jit
def _collagen(t: Plane, u: float, v: float) -> tuple[float, float]:
    """Wavy bundles along u, with clefts between them."""
    w = v + 16.0 * noise(t, u / 130.0, v / 170.0)
    fibre = noise(t, u / 95.0, w / 13.0)
    cleft = 1.0 - 0.96 * soft_step(
        1.25, 1.6, noise(t, u / 105.0 + 9.0, w / 19.0) + 0.25 * noise(t, u / 30.0, w / 9.0)
    )
    fine = noise(t, u / 17.0, w / 4.0 + 33.0)
    return (0.07 + 0.02 * fine) * cleft, (0.82 + 0.15 * fibre + 0.09 * fine) * cleft


@jit
def adipose(scene: Scene, x: float, y: float) -> float:
    """Eosin of the thin walls between fat cells about 50 um wide."""
    u = x / 100.0 + 0.07 * noise(scene.noise, x / 80.0, y / 80.0)
    v = y / 100.0 + 0.07 * noise(scene.noise, x / 80.0 + 40.0, y / 80.0)
    ci, cj = math.floor(u), math.floor(v)
    first = second = 1e9
    for j in range(cj - 1, cj + 2):
        for i in range(ci - 1, ci + 2):
            state = cell_hash(scene.seed, 3, i, j)
            d = math.hypot(i + 0.2 + 0.6 * unit(state, 0) - u, j + 0.2 + 0.6 * unit(state, 1) - v)
            if d < first:
                first, second = d, first
            elif d < second:
                second = d
    return 0.85 * (1.0 - soft_step(0.02, 0.06, second - first))


@jit
def _ground(scene: Scene, kind: int, co: float, si: float, x: float, y: float) -> tuple[float, float]:
    """(H, E) of the ground substance; co and si give the direction of the region's fibres."""
    t = scene.noise
    if kind == TUMOUR and noise(t, x / 170.0, y / 170.0) < NEST:
        grain = noise(t, x / 6.0, y / 6.0)
        return 0.36 + 0.07 * grain, 0.46 + 0.10 * grain + 0.05 * noise(t, x / 31.0, y / 29.0)
    if kind == LYMPHOCYTES:
        grain = noise(t, x / 7.0, y / 7.0)
        return 0.20 + 0.05 * grain, 0.36 + 0.12 * grain
    if kind == FAT:
        return 0.03, adipose(scene, x, y)
    if kind == NECROSIS:
        clump = noise(t, x / 24.0, y / 24.0)
        grain = noise(t, x / 4.5, y / 4.5 + 11.0)
        ghost = 0.16 * noise(t, x / 210.0, y / 210.0)
        return 0.17 + 0.10 * max(0.0, grain), 0.76 + ghost + 0.14 * clump + 0.14 * grain
    return _collagen(t, x * co + y * si, y * co - x * si)


@jit
def lay_ground(scene: Scene, x0: int, y0: int, scale: float, hs: Plane, es: Plane) -> None:
    rows, columns = hs.shape
    bx, by = x0 // BLOCK, y0 // BLOCK
    nx, ny = (x0 + columns - 1) // BLOCK - bx + 2, (y0 + rows - 1) // BLOCK - by + 2
    keys = np.empty((ny, nx), np.int64)
    for j in range(ny):
        for i in range(nx):
            keys[j, i] = locate(scene, (bx + i) * BLOCK * scale, (by + j) * BLOCK * scale)
    for j in range(ny - 1):
        for i in range(nx - 1):
            key = keys[j, i]
            uniform = key == keys[j, i + 1] and key == keys[j + 1, i] and key == keys[j + 1, i + 1]
            kind, angle = 0, 0.0
            if key != OUTSIDE:
                kind, angle = class_of(scene, key), fibre_angle(scene, key)
            co, si = math.cos(angle), math.sin(angle)
            for row in range(max(0, (by + j) * BLOCK - y0), min(rows, (by + j + 1) * BLOCK - y0)):
                y = (y0 + row + 0.5) * scale
                for column in range(max(0, (bx + i) * BLOCK - x0), min(columns, (bx + i + 1) * BLOCK - x0)):
                    x = (x0 + column + 0.5) * scale
                    if not uniform:
                        here = locate(scene, x, y)
                        if here != key:
                            key = here
                            if key != OUTSIDE:
                                kind, angle = class_of(scene, key), fibre_angle(scene, key)
                                co, si = math.cos(angle), math.sin(angle)
                    if key == OUTSIDE:
                        hs[row, column] = es[row, column] = 0.0
                    else:
                        h, e = _ground(scene, kind, co, si, x, y)
                        hs[row, column], es[row, column] = max(0.0, h), max(0.0, e)
