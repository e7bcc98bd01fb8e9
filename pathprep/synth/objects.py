"""Nuclei, glands and vessels: each drawn from its own cell's hash over what lies there already.

The order of drawing is the order of the cells and does not depend on the window, and an object
touches no pixel that its reach does not cover: so two windows agree wherever they overlap.

Lengths are in reference pixels of 0.5 um; H and E are concentrations >= 0.
"""

import math

import numpy as np

from pathprep.synth.ground import NEST, Plane, adipose, fibre_angle, soft_step
from pathprep.synth.scene import (
    FAT,
    GLAND,
    LYMPHOCYTES,
    NECROSIS,
    OUTSIDE,
    STROMA,
    TUMOUR,
    Scene,
    cell_hash,
    class_of,
    jit,
    locate,
    mix,
    noise,
    unit,
)

GLANDS, VESSELS = 100, 101  # kinds of object beside the classes, whose number stands for their nuclei


@jit
def _span(centre: float, reach: float, origin: int, scale: float, length: int) -> tuple[int, int]:
    """Rows or columns of the window that lie within reach of a centre."""
    first = math.ceil((centre - reach) / scale - 0.5) - origin
    last = math.floor((centre + reach) / scale - 0.5) - origin
    return max(0, first), min(length, last + 1)


@jit
def _nucleus(
    t: Plane, x0: int, y0: int, scale: float, hs: Plane, es: Plane,
    cx: float, cy: float, a: float, b: float, angle: float, h: float, vesicular: float,
) -> None:  # fmt: skip
    """An ellipse with a soft, slightly uneven edge, clumped chromatin and, if vesicular, a clear centre
    inside a dark membrane and a nucleolus."""
    reach = 1.15 * max(a, b)
    r0, r1 = _span(cy, reach, y0, scale, hs.shape[0])
    c0, c1 = _span(cx, reach, x0, scale, hs.shape[1])
    if r0 >= r1 or c0 >= c1:
        return
    co, si = math.cos(angle), math.sin(angle)
    for row in range(r0, r1):
        dy = (y0 + row + 0.5) * scale - cy
        for column in range(c0, c1):
            dx = (x0 + column + 0.5) * scale - cx
            u, v = (dx * co + dy * si) / a, (dy * co - dx * si) / b
            d = u * u + v * v
            if d > 1.3:
                continue
            chromatin = noise(t, (cx * 7.0 + dx) / 4.2, (cy * 5.0 + dy) / 4.2)
            d += 0.07 * noise(t, cx + dx / 7.0, cy + dy / 7.0)
            weight = 1.0 - soft_step(0.8, 1.12, d)
            value = h * (1.0 + 0.16 * chromatin - vesicular * (0.75 - d))
            if vesicular > 0.0:
                spot = (u - 0.2) ** 2 + (v + 0.15) ** 2
                value += 0.7 * (1.0 - soft_step(0.02, 0.09, spot))
            hs[row, column] += weight * (max(0.3, value) - hs[row, column])
            es[row, column] += weight * (0.16 - es[row, column])


@jit
def _gland(
    scene: Scene, x0: int, y0: int, scale: float, hs: Plane, es: Plane, cx: float, cy: float, state: np.uint64
) -> None:
    """A lumen inside pink epithelium, with a row of nuclei near its base."""
    t = scene.noise
    a = 56.0 + 34.0 * unit(state, 3)
    b = a * (0.62 + 0.33 * unit(state, 4))
    angle, lumen = math.pi * unit(state, 5), 0.26 + 0.24 * unit(state, 6)
    co, si = math.cos(angle), math.sin(angle)
    secretion = 0.5 * max(0.0, unit(state, 7) - 0.45)
    r0, r1 = _span(cy, 1.45 * a, y0, scale, hs.shape[0])
    c0, c1 = _span(cx, 1.45 * a, x0, scale, hs.shape[1])
    if r0 >= r1 or c0 >= c1:
        return
    for row in range(r0, r1):
        y = (y0 + row + 0.5) * scale
        for column in range(c0, c1):
            x = (x0 + column + 0.5) * scale
            dx, dy = x - cx, y - cy
            r = math.hypot((dx * co + dy * si) / a, (dy * co - dx * si) / b)
            if r > 1.45:
                continue
            r += 0.09 * noise(t, x / 52.0, y / 52.0)
            if r > 1.1:
                continue
            grain = noise(t, x / 8.0, y / 8.0)
            inside = 1.0 - soft_step(lumen - 0.03, lumen + 0.03, r + 0.02 * grain)
            brush = 0.25 * math.exp(-(((r - lumen - 0.05) / 0.04) ** 2))
            h = 0.24 + 0.05 * grain
            e = 0.56 + 0.09 * grain + brush
            h += inside * (0.01 - h)
            e += inside * (max(0.02, secretion * (1.0 + noise(t, x / 22.0, y / 22.0))) - e)
            gap = 1.0 - 0.55 * soft_step(1.0, 1.03, r)  # the pale line of the basement membrane
            weight = 1.0 - soft_step(1.04, 1.08, r)
            hs[row, column] += weight * (h * gap - hs[row, column])
            es[row, column] += weight * (e * gap - es[row, column])
    count = int(2.0 * math.pi * math.sqrt(a * b) * 0.8 / 12.0)
    for n in range(count):
        own = mix(state + np.uint64(1000 + n))
        phi = 2.0 * math.pi * (n + 0.6 * unit(own, 0)) / count
        ring = 0.78 + 0.12 * (unit(own, 1) - 0.5)
        u, v = a * math.cos(phi), b * math.sin(phi)
        px, py = cx + ring * (u * co - v * si), cy + ring * (u * si + v * co)
        ring -= 0.09 * noise(t, px / 52.0, py / 52.0)
        px, py = cx + ring * (u * co - v * si), cy + ring * (u * si + v * co)
        tilt = math.atan2(py - cy, px - cx) + 0.5 * (unit(own, 2) - 0.5)
        long, short = 7.6 + 2.4 * unit(own, 3), 4.6 + 1.4 * unit(own, 4)
        _nucleus(t, x0, y0, scale, hs, es, px, py, long, short, tilt, 1.25 + 0.5 * unit(own, 5), 0.25)


@jit
def _vessel(
    scene: Scene, x0: int, y0: int, scale: float, hs: Plane, es: Plane, cx: float, cy: float, state: np.uint64
) -> None:
    """A wall, a clear lumen and red cells, which are eosin and nothing else."""
    t = scene.noise
    a = 18.0 + 22.0 * unit(state, 3)
    b = a * (0.4 + 0.5 * unit(state, 4))
    angle, filling = math.pi * unit(state, 5), 1.4 * unit(state, 6) - 0.9
    co, si = math.cos(angle), math.sin(angle)
    r0, r1 = _span(cy, 1.3 * a, y0, scale, hs.shape[0])
    c0, c1 = _span(cx, 1.3 * a, x0, scale, hs.shape[1])
    if r0 >= r1 or c0 >= c1:
        return
    for row in range(r0, r1):
        y = (y0 + row + 0.5) * scale
        for column in range(c0, c1):
            x = (x0 + column + 0.5) * scale
            r = math.hypot(((x - cx) * co + (y - cy) * si) / a, ((y - cy) * co - (x - cx) * si) / b)
            if r > 1.3:
                continue
            cells = soft_step(-0.1, 0.15, noise(t, x / 9.0, y / 9.0) + filling) * (
                1.0 - soft_step(0.85, 0.95, r)
            )
            inside = 1.0 - soft_step(0.9, 1.0, r)
            e = 0.75 + inside * (0.02 + 1.25 * cells - 0.75)
            weight = 1.0 - soft_step(1.15, 1.3, r)
            hs[row, column] += weight * (0.08 * (1.0 - inside) - hs[row, column])
            es[row, column] += weight * (e - es[row, column])
    for n in range(7):
        own = mix(state + np.uint64(1000 + n))
        phi = 2.0 * math.pi * (n + 0.7 * unit(own, 0)) / 7
        u, v = 1.05 * a * math.cos(phi), 1.05 * b * math.sin(phi)
        along = math.atan2(b * math.cos(phi), -a * math.sin(phi)) + angle
        px, py = cx + u * co - v * si, cy + u * si + v * co
        _nucleus(t, x0, y0, scale, hs, es, px, py, 7.5, 2.6, along, 1.7, 0.0)


@jit
def scatter(
    scene: Scene,
    kind: int,
    spacing: float,
    margin: float,
    x0: int,
    y0: int,
    scale: float,
    hs: Plane,
    es: Plane,
) -> None:
    """Draw one kind of object: one jittered cell after another, row by row, wherever its class lies.

    ``kind`` is GLANDS, VESSELS, or a class for the nuclei of that class. ``margin`` is at least the reach
    of the largest object.
    """
    t = scene.noise
    i0, i1 = (
        math.floor((x0 * scale - margin) / spacing),
        int(((x0 + hs.shape[1]) * scale + margin) / spacing),
    )
    j0, j1 = (
        math.floor((y0 * scale - margin) / spacing),
        int(((y0 + hs.shape[0]) * scale + margin) / spacing),
    )
    for j in range(j0, j1 + 1):
        for i in range(i0, i1 + 1):
            state = cell_hash(scene.seed, 10 + kind, i, j)
            x = (i + 0.1 + 0.8 * unit(state, 0)) * spacing
            y = (j + 0.1 + 0.8 * unit(state, 1)) * spacing
            key = locate(scene, x, y)
            if key == OUTSIDE:
                continue
            here, luck = class_of(scene, key), unit(state, 2)
            p, q, r = unit(state, 3), unit(state, 4), unit(state, 5)
            if kind == GLANDS:
                if here == GLAND and luck < 0.94:
                    _gland(scene, x0, y0, scale, hs, es, x, y, state)
            elif kind == VESSELS:
                if here in (STROMA, LYMPHOCYTES, NECROSIS) and luck < 0.45:
                    _vessel(scene, x0, y0, scale, hs, es, x, y, state)
            elif kind == LYMPHOCYTES:
                # Everywhere else they are the scattered cells of a mild inflammation, in patches.
                share = 0.93 if here == LYMPHOCYTES else 0.10 * max(0.0, noise(t, x / 160.0, y / 160.0) - 0.6)
                if here == FAT:
                    share = 0.0
                if luck < share:
                    a = 5.9 + 1.3 * p
                    _nucleus(
                        t,
                        x0,
                        y0,
                        scale,
                        hs,
                        es,
                        x,
                        y,
                        a,
                        a * (0.86 + 0.14 * q),
                        math.pi * r,
                        1.75 + 0.45 * q,
                        0.0,
                    )
            elif here == TUMOUR and noise(t, x / 170.0, y / 170.0) < NEST:
                if kind == TUMOUR and luck < 0.93:
                    a = 7.4 + 4.2 * p * p
                    _nucleus(
                        t,
                        x0,
                        y0,
                        scale,
                        hs,
                        es,
                        x,
                        y,
                        a,
                        a * (0.66 + 0.3 * q),
                        math.pi * r,
                        1.15 + 0.5 * q,
                        0.45,
                    )
            elif kind == STROMA and here in (STROMA, GLAND, TUMOUR):
                if luck < 0.62:
                    tilt = fibre_angle(scene, key) + 0.6 * (r - 0.5)
                    _nucleus(
                        t, x0, y0, scale, hs, es, x, y, 8.5 + 4.5 * p, 2.5 + 1.3 * q, tilt, 1.5 + 0.5 * q, 0.0
                    )
            elif kind == FAT and here == FAT:
                if luck < 0.4 and adipose(scene, x, y) > 0.5:  # on a wall, never inside a cell
                    _nucleus(t, x0, y0, scale, hs, es, x, y, 6.2, 2.8, math.pi * r, 1.5 + 0.5 * q, 0.0)
            elif kind == NECROSIS and here == NECROSIS and luck < 0.5:
                a = 1.8 + 3.2 * p * p
                _nucleus(
                    t, x0, y0, scale, hs, es, x, y, a, a * (0.6 + 0.4 * q), math.pi * r, 1.6 + 0.5 * q, 0.0
                )
