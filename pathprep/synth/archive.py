"""Draws a sample archive: pyramidal slides that look like H&E, with everything about them known.

Slides are a pure function of (seed, slide number, size, mpp): they take no memory to speak of, and
the number of workers changes the time and nothing else. Each slide has its own stain vectors, stain
strength and scanner background, as an archive from several laboratories has; the truth is written
beside it. A drawing, not data: use it to try the commands, to test and to measure speed.

    OUT/synth-000.tif                 tiled JPEG pyramid, read by cuCIM and OpenSlide
    OUT/truth/synth-000.json          stain, scanner, layout
    OUT/truth/synth-000-tissue.png    255 where tissue is, one pixel per TRUTH_STEP x TRUTH_STEP
    OUT/truth/synth-000.geojson       regions by class, level-0 pixels, as QuPath reads them
"""

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import measure

from pathprep.errors import UsageError
from pathprep.params.running import AnyPath
from pathprep.storage import atomic
from pathprep.storage.place import local_folder
from pathprep.synth import pyramid
from pathprep.synth.paint import concentrations, paint
from pathprep.synth.scene import CLASSES, OUTSIDE, Array, Scene, class_map, make_scene

TRUTH_STEP = 32  # level-0 px per pixel of the truth; outlines are truer than this only by chance
MIN_SIZE = 512
REFERENCE_MPP = 0.5  # the scene's own unit
# A region smaller than this many truth pixels is a sliver at an edge, not something a person would outline.
MIN_REGION = 16

# The field's reference vectors (Macenko as commonly distributed), columns H and E.
REFERENCE_HE = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
# Random part of each component: turns a vector by about 3.5 degrees at one standard deviation.
SPREAD = 0.045
# Real pairs lie 18 to 35 degrees apart; nearer ones no method can separate.
SEPARATION = (18.0, 35.0)
# Eosin needs some red: with less, the canonical fit sees no pure eosin (optical density >= 0.15).
MIN_EOSIN_RED = 0.19
# exp(-OD) in steps of 1/1024, up to a density at which every scanner sees black.
FADE = np.exp(-np.arange(6 * 1024) / 1024).astype(np.float32)


@dataclass(frozen=True)
class Look:
    """What a laboratory and its scanner do to one slide."""

    he: Array  # (3, 2) unit optical density vectors, columns H and E
    gain: Array  # (2,) factors on the concentrations
    white: Array  # (3,) background, 0-255


def _angle(a: Array, b: Array) -> float:
    return math.degrees(math.acos(min(1.0, float(a @ b))))


def make_look(seed: int, slide: int) -> Look:
    """Stain and scanner of one slide; vectors are redrawn until the pair is plausible."""
    rng = np.random.Generator(np.random.Philox(key=[seed, slide], counter=[0, 0, 0, 1]))
    while True:
        he = REFERENCE_HE + rng.normal(0.0, SPREAD, (3, 2))
        he /= np.linalg.norm(he, axis=0)
        apart = _angle(he[:, 0], he[:, 1])
        redder = he[0, 0] > he[0, 1] + 0.15
        if SEPARATION[0] < apart < SEPARATION[1] and he[0, 1] > MIN_EOSIN_RED and redder and he.min() > 0.05:
            break
    gain = np.exp(rng.uniform(math.log(0.8), math.log(1.2), 2))
    white = np.array([241.0, 240.0, 242.0]) + rng.uniform(-5.0, 5.0, 3)
    return Look(he, gain, white)


def _max_c(scene: Scene, look: Look, classes: npt.NDArray[np.int8], scale: float) -> list[float]:
    """99th percentile of the true concentrations, over 64 windows spread through the tissue."""
    rows, columns = np.nonzero(classes != OUTSIDE)
    found = []
    for n in np.linspace(0, len(rows) - 1, 64).astype(int):
        planes = np.empty((2, 64, 64), np.float32)
        concentrations(
            scene, int(columns[n]) * TRUTH_STEP, int(rows[n]) * TRUTH_STEP, scale, planes[0], planes[1]
        )
        found.append(planes.reshape(2, -1))
    return [round(float(v), 4) for v in np.percentile(np.concatenate(found, axis=1), 99, axis=1) * look.gain]


def _ring(contour: Array, origin: tuple[int, int], size: int) -> list[list[float]]:
    """A closed ring of [x, y] in level-0 pixels from a contour in (row, column) of a padded crop."""
    points = measure.approximate_polygon(contour, 0.4)
    xy = (points[:, ::-1] - 1.0 + np.array([origin[1], origin[0]]) + 0.5) * TRUTH_STEP
    ring: list[list[float]] = np.clip(np.round(xy, 1), 0, size).tolist()
    return ring


def _features(classes: npt.NDArray[np.int8], size: int) -> list[dict[str, Any]]:
    """One annotation polygon, with holes, for every connected region of a class."""
    features = []
    labels = measure.label(classes, background=OUTSIDE, connectivity=1)
    for region in measure.regionprops(labels):
        if region.area < MIN_REGION:
            continue
        top, left = region.bbox[:2]
        contours = measure.find_contours(np.pad(region.image.astype(float), 1), 0.5, fully_connected="low")
        contours.sort(key=len, reverse=True)  # the outer ring first: it encloses the holes
        name = CLASSES[classes[tuple(region.coords[0])]]
        features.append(
            {
                "type": "Feature",
                "id": f"region-{region.label:05d}",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [_ring(c, (top, left), size) for c in contours],
                },
                "properties": {"objectType": "annotation", "classification": {"name": name}},
            }
        )
    return features


def _write_truth(
    path: Path, scene: Scene, look: Look, facts: dict[str, Any], size: int, scale: float
) -> None:
    side = -(-size // TRUTH_STEP)
    classes = np.empty((side, side), np.int8)
    class_map(scene, TRUTH_STEP * scale, classes)
    name = path.stem
    folder = path.parent / "truth"

    mask = io.BytesIO()
    Image.fromarray(np.where(classes == OUTSIDE, 0, 255).astype(np.uint8)).save(mask, "PNG")
    atomic.write_bytes(folder / f"{name}-tissue.png", mask.getvalue())
    collection = {"type": "FeatureCollection", "features": _features(classes, size)}
    atomic.write_bytes(folder / f"{name}.geojson", (json.dumps(collection) + "\n").encode())
    atomic.write_json(
        folder / f"{name}.json",
        {
            **facts,
            "slide": path.name,
            "tissue": f"truth/{name}-tissue.png",
            "regions": f"truth/{name}.geojson",
            "truth_step": TRUTH_STEP,
            "he": look.he.tolist(),
            "gain": look.gain.tolist(),
            "max_c": _max_c(scene, look, classes, scale),
            "white": look.white.tolist(),
            "tissue_share": float((classes != OUTSIDE).mean()),
            "classes": {label: float((classes == k).mean()) for k, label in enumerate(CLASSES)},
        },
    )


def synthesize(
    out: AnyPath,
    slides: int = 4,
    size: int = 8192,
    seed: int = 0,
    native_tile: int = 240,
    workers: int = 1,
    mpp: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw square slides that look like H&E, with their ground truth.

    A slide appears under its name when it is complete, after its truth.

    Args:
        out: folder, made if absent.
        slides: how many. size: side in pixels, at least 512.
        seed: same seed, same bytes.
        native_tile: side of the file's own JPEG tiles: 240 is what Aperio scanners write.
        workers: threads; they change the time and nothing else.
        mpp: micrometres per pixel, 0.1 to 2. Features keep their size in micrometres, so it decides how many
            pixels a nucleus has.
        progress: called with (tile rows done, tile rows in all).

    Returns:
        Paths of the slides.

    Raises:
        UsageError: an argument is out of its range.
    """
    out = local_folder(out)
    if slides < 1:
        raise UsageError(f"`slides` is {slides}; ask for at least 1")
    if size < MIN_SIZE:
        raise UsageError(
            f"`size` is {size} px; the smallest slide that holds tissue regions is {MIN_SIZE} px"
        )
    if native_tile < 16 or native_tile % 16:
        raise UsageError(f"`native_tile` is {native_tile}; TIFF tiles are multiples of 16 px: use 240 or 256")
    if workers < 1:
        raise UsageError(f"`workers` is {workers}; use at least 1")
    if not 0.1 <= mpp <= 2.0:
        raise UsageError(f"`mpp` is {mpp}; cells are drawn from 0.1 to 2.0 um per pixel")
    if seed < 0:
        raise UsageError(f"`seed` is {seed}; use 0 or more")

    (out / "truth").mkdir(parents=True, exist_ok=True)
    atomic.sweep(out)
    atomic.sweep(out / "truth")
    scale = mpp / REFERENCE_MPP
    rows_each = -(-size // native_tile)
    rows_done = 0

    def row_done() -> None:
        nonlocal rows_done
        rows_done += 1
        if progress is not None:
            progress(rows_done, slides * rows_each)

    paths = []
    for slide in range(slides):
        path = out / f"synth-{slide:03d}.tif"
        scene, look = make_scene(seed, slide, size * scale), make_look(seed, slide)
        facts = {"seed": seed, "number": slide, "size": size, "mpp": mpp, "native_tile": native_tile}
        _write_truth(path, scene, look, facts, size, scale)
        pyramid.write(
            path,
            size=size,
            tile=native_tile,
            mpp=mpp,
            description=f"pathprep synth: a drawing, not tissue (seed {seed}, slide {slide})",
            draw=partial(paint, scene, scale, look.he, look.gain, look.white, FADE),
            workers=workers,
            row_done=row_done,
        )
        paths.append(path)
    return paths
