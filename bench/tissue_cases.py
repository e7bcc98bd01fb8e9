"""Overviews whose tissue is known: drawn slides of many glasses and stains, and real ones outlined by hand.

The outlines (tissue_masks/*.geojson) are ours, drawn on overviews by eye with 15 to 60 points a piece: they
are true to about one in a hundred of the picture's side. ``Ignore*`` is what a person would not decide,
such as loose shreds of fat around a lymph node, and is not counted. Small lumina are tissue.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.errors import PathprepError
from pathprep.slides.filled import fill_all
from pathprep.slides.slide import Slide
from pathprep.synth.archive import FADE, make_look
from pathprep.synth.paint import paint
from pathprep.synth.scene import FAT, OUTSIDE, class_map, make_scene

MASKS = Path(__file__).parent / "tissue_masks"
MPP = 8.0  # of overviews, where the picture is as fine
Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

DRAWN_UM = 4096.0  # side of a drawn slide
PAINTED_MPP = 1.0
FAT_SHARES = np.cumsum([0.2, 0.1, 0.1, 0.05, 0.5, 0.05])
# Name -> light of the glass (of the drawn one's own), gain of the stains, what else
GLASSES = {
    "plain": (1.0, 1.0, 1.0),
    "bluish": (0.925, 0.95, 1.0),
    "yellowish": (1.0, 0.96, 0.9),
    "grey": (0.82, 0.84, 0.86),
    "pinkish": (1.0, 0.94, 0.98),
    "dark": (0.66, 0.66, 0.66),
}
IHC = np.array([[0.65, 0.27], [0.70, 0.57], [0.29, 0.78]])  # haematoxylin and DAB


@dataclass(frozen=True)
class Case:
    """An overview and its truth.

    Attributes:
        kind: drawn or real. pixels: (h, w, 3) uint8. mpp: of it.
        truth: (h, w) bool. counted: (h, w) bool, where the truth is known. fat: (h, w) bool, of drawn slides.
        group: slides of one stain and lab, which a cross-validation holds out together.
    """

    name: str
    kind: str
    pixels: Pixels
    mpp: float
    truth: Mask
    counted: Mask
    fat: Mask | None = None
    group: str = ""


def drawn(seed: int = 7, mpp: float = MPP) -> Iterator[Case]:
    """Every glass with H&E, and plain glass with fat, faint stains, IHC, pen, and black edges."""
    for number, (name, light) in enumerate(GLASSES.items()):
        yield _drawn(f"glass {name}", seed, number, light, mpp)
    yield _drawn("fat", seed, 20, GLASSES["plain"], mpp, fat=True)
    yield _drawn("fat, bluish", seed, 21, GLASSES["bluish"], mpp, fat=True)
    yield _drawn("faint H&E", seed, 22, GLASSES["plain"], mpp, gain=0.3)
    yield _drawn("IHC", seed, 23, GLASSES["plain"], mpp, he=IHC, gain=0.6)
    yield _drawn("faint IHC", seed, 24, GLASSES["plain"], mpp, he=IHC, gain=0.15)
    yield _with_pen(_drawn("pen", seed, 25, GLASSES["plain"], mpp))
    yield _with_edges(_drawn("black edges", seed, 26, GLASSES["plain"], mpp))


def _drawn(
    name: str,
    seed: int,
    number: int,
    light: tuple[float, ...],
    mpp: float,
    *,
    gain: float = 1.0,
    he: npt.NDArray[np.float64] | None = None,
    fat: bool = False,
) -> Case:
    scale = PAINTED_MPP / 0.5
    side = round(DRAWN_UM / PAINTED_MPP)
    scene, look = make_scene(seed, number, side * scale), make_look(seed, number)
    if fat:
        scene = scene._replace(shares=FAT_SHARES)
    pixels = np.empty((side, side, 3), np.uint8)
    vectors = look.he if he is None else he / np.linalg.norm(he, axis=0)
    paint(scene, scale, vectors, look.gain * gain, look.white * np.array(light), FADE, 0, 0, pixels)
    small = round(DRAWN_UM / mpp)
    classes = np.empty((small, small), np.int8)
    class_map(scene, DRAWN_UM / 0.5 / small, classes)
    picture = np.asarray(Image.fromarray(pixels).resize((small, small), Image.Resampling.BOX))
    truth = classes != OUTSIDE
    return Case(
        f"drawn: {name}", "drawn", picture, mpp, truth, np.ones_like(truth), classes == FAT, f"drawn {number}"
    )


def _with_pen(case: Case) -> Case:
    """Two strokes of pen on bare glass, green and blue, and one over tissue."""
    pixels, (h, w) = case.pixels.copy(), case.truth.shape
    rows, columns = np.mgrid[:h, :w]
    for ink, (a, b), (c, d) in (
        ((40, 150, 120), (0.04, 0.05), (0.05, 0.9)),
        ((50, 90, 190), (0.95, 0.1), (0.97, 0.7)),
        ((200, 40, 60), (0.3, 0.5), (0.7, 0.55)),
    ):
        along = np.clip(
            ((columns / w - a) * (c - a) + (rows / h - b) * (d - b)) / ((c - a) ** 2 + (d - b) ** 2), 0, 1
        )
        apart = np.hypot(columns / w - a - along * (c - a), rows / h - b - along * (d - b))
        stroke = apart < 0.012
        pixels[stroke] = (pixels[stroke] / 255.0 * np.array(ink)).astype(np.uint8)
    return _replaced(case, pixels)


def _with_edges(case: Case) -> Case:
    """Black where the scanner saw the frame: left and upper edge."""
    pixels, (h, w) = case.pixels.copy(), case.truth.shape
    noise = np.random.default_rng(0).integers(0, 7, pixels.shape, np.uint8)
    edge = np.zeros((h, w), bool)
    edge[: h // 24] = edge[:, : w // 30] = True
    pixels[edge] = noise[edge] + np.array([4, 2, 6], np.uint8)
    truth = case.truth & ~edge
    return Case(case.name, case.kind, pixels, case.mpp, truth, case.counted, case.fat, case.group)


def _replaced(case: Case, pixels: Pixels) -> Case:
    return Case(case.name, case.kind, pixels, case.mpp, case.truth, case.counted, case.fat, case.group)


def real(data: Path, mpp: float = MPP) -> Iterator[Case]:
    """The slides and pictures under ``data`` that tissue_masks/ has outlines of."""
    for path in sorted(MASKS.glob("*.geojson")):
        drawing = json.loads(path.read_text())
        told = drawing["picture"]
        source = data / told["path"]
        if not source.exists():
            continue
        pixels, across = _overview(source, told["mpp"], mpp)
        height, width = pixels.shape[:2]
        masks = {"Tissue": np.zeros((height, width), bool), "Ignore*": np.zeros((height, width), bool)}
        for feature in drawing["features"]:
            name = feature["properties"]["classification"]["name"]
            polygons = [
                [np.array(ring, np.float64) for ring in polygon]
                for polygon in feature["geometry"]["coordinates"]
            ]
            fill_all(masks[name], polygons, (0.0, 0.0), (width / told["width"], height / told["height"]))
        truth = masks["Tissue"]
        yield Case(
            f"{path.stem} ({told['kind']})", "real", pixels, across, truth, truth | ~masks["Ignore*"],
            group=_group(told["path"]),
        )  # fmt: skip


def _group(path: str) -> str:
    """Slides of one lab and stain count as one: a model that has seen one has seen the others."""
    for part in (
        "expression",
        "camelyon",
        "Rat-Kidney",
        "lung-lesion",
        "monuseg",
        "cohort",
        "histoqc",
        "coverslip",
    ):
        if part in path:
            return part
    return Path(path).stem


def _overview(path: Path, own: float, mpp: float) -> tuple[Pixels, float]:
    by = max(1.0, mpp / own)
    try:
        with Slide(path) as slide:
            return slide.overview(by), own * by
    except PathprepError:  # a plain picture
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as image:
            size = (max(1, round(image.width / by)), max(1, round(image.height / by)))
            image.draft("RGB", size)
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX)), own * by
