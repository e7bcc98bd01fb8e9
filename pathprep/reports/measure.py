"""Numbers of a dataset's slides for its page: one pass over the indexes, little kept of each slide."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pathprep.dataset.marker import Marker, SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import SHARE, shares_of
from pathprep.errors import DatasetError
from pathprep.params.notes import in_words as in_words_of
from pathprep.params.quality import was_dropped
from pathprep.reports import stain_outliers
from pathprep.reports.stain_outliers import LIMIT, Floats
from pathprep.slides import unlike
from pathprep.words import counted

COLUMNS = ["x", "y", "side", "tissue", "saturation", "white", "focus", "stain_status", "he", "max_c"]
COLUMNS += ["tissue_pixels", "offset", "length"]

# Medians and deviations of fewer say nothing
ENOUGH_TILES = 20
ENOUGH_SLIDES = 8
# A slide with less than this share of the median slide's tiles has lost its tissue, or is a fragment
FEW_TILES = 0.1
# Macenko fails on tiles that are nearly all glass or one flat colour: normally well below one in ten
BORROWED = 0.1
# Deviations of a slide's median sharpness (logarithm) below the dataset's
FOCUS_FLOOR = 0.2
# How much what a slide looks like deserves a look, by code; a field within tissue is no fault
UNLIKE = {"dark_background": 60, "not_he": 40, "odd_mpp": 20, "all_tissue": 10}
DOTS_PER_SLIDE = 60
CANDIDATES = 4  # unusual tiles, and tiles without a fit of their own, that a slide offers for display


class Histogram(NamedTuple):
    """What is counted over which bins; ``log``: the edges are decimal logarithms."""

    title: str
    unit: str
    edges: Floats
    log: bool = False


SHARE_EDGES = np.linspace(0, 1, 21)
HISTOGRAMS = {
    "tissue": Histogram("Tissue in the tile", "share inside the tissue mask", np.linspace(0, 1, 21)),
    "saturation": Histogram("Colour saturation", "mean HSV saturation", np.linspace(0, 1, 41)),
    "white": Histogram("White pixels", "share of the tile", np.linspace(0, 1, 21)),
    "focus": Histogram(
        "Sharpness", "variance of the Laplacian, grey levels²; low is blurred", np.linspace(0, 5, 41), True
    ),
}


class Tile(NamedTuple):
    """A tile that may be shown; ``score`` orders candidates, ``why`` says what is odd about it."""

    slide: str
    x: int
    y: int
    side: int
    offset: int
    length: int
    status: str
    he: tuple[float, ...] | None
    max_c: tuple[float, ...] | None
    score: float
    why: str


FlagKind = Literal[
    "damaged", "images", "empty", "few", "blurred", "stain", "unfitted", "borrowed", "mpp", "unlike"
]


@dataclass(frozen=True)
class Flag:
    """Why a slide deserves a look; ``weight``: how much. ``text`` says it to people."""

    kind: FlagKind
    weight: float
    text: str


@dataclass
class Measured:
    """A slide.

    Attributes:
        problem: why its index could not be used; "" if it could.
        histograms: counts over the bins of HISTOGRAMS.
        focus: median of log10 of the tiles' sharpness; None without tiles.
        dots: (n, 6) numbers (report_stain) of a sample of tiles with their own fit.
        judged, unusual: tiles compared with their slide, and those of them beyond LIMIT deviations.
        odd: the most unusual. borrowed: some without a fit of their own. sample: some at random.
        flags: what to look at, the weightiest first; filled in by ``judge``.
    """

    name: str
    marker: Marker
    problem: str = ""
    histograms: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    focus: float | None = None
    dots: Floats = field(default_factory=lambda: np.empty((0, 6)))
    judged: int = 0
    unusual: int = 0
    odd: list[Tile] = field(default_factory=list)
    borrowed: list[Tile] = field(default_factory=list)
    sample: list[Tile] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """How much the slide deserves a look."""
        return sum(flag.weight for flag in self.flags)

    @property
    def poor(self) -> int:
        """Tiles that the quality filters dropped."""
        return sum(count for reason, count in self.marker.counts.items() if was_dropped(reason))

    def has(self, kind: FlagKind) -> bool:
        """Whether it has a flag of this kind."""
        return any(flag.kind == kind for flag in self.flags)

    @property
    def stain_outlier(self) -> bool:
        """Whether its pooled fit is beyond LIMIT deviations from the other slides'."""
        return self.has("stain")


def measure(dataset: Dataset, name: str, seed: int, samples: int) -> Measured:
    """Read a slide's index and keep what the page needs, with ``samples`` tiles at random."""
    found = Measured(name, dataset.markers[name])
    shares = [f"{SHARE}{each}" for each in shares_of(dataset.params)]
    for file, entry in found.marker.files.items():
        size = dataset.storage.size(file)
        if size != entry.size:
            found.problem = f"{file} is {'missing' if size < 0 else 'of another size than recorded'}"
            return found
    try:
        table = dataset.table(name, [*COLUMNS, *shares])
    except DatasetError as error:
        found.problem = str(error)
        return found
    rng = np.random.default_rng([seed, *name.encode()])
    for column in shares:  # of the classes of a tissue model
        values = np.clip(np.nan_to_num(table[column].to_numpy().astype(np.float64)), 0, 1)
        found.histograms[column] = np.histogram(values, SHARE_EDGES)[0]
    for column, (_, _, edges, log) in HISTOGRAMS.items():
        values = table[column].to_numpy().astype(np.float64)
        if log:
            values = np.log10(np.maximum(values, 1.0))
        found.histograms[column] = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    if not table.num_rows:
        return found
    found.focus = float(np.median(np.log10(np.maximum(table["focus"].to_numpy(), 1.0))))
    picked = rng.choice(table.num_rows, min(samples, table.num_rows), replace=False)
    found.sample = [_tile(table, name, int(row), 0.0, "") for row in picked]
    _measure_stain(found, table, rng)
    return found


def _measure_stain(found: Measured, table: pa.Table, rng: np.random.Generator) -> None:
    status = np.array(table["stain_status"].to_pylist(), dtype=object)
    lost = np.flatnonzero((status == "slide_fit") | (status == "unfitted"))
    for row in rng.choice(lost, min(CANDIDATES, len(lost)), replace=False):
        pixels = table["tissue_pixels"][int(row)].as_py()
        found.borrowed.append(_tile(table, found.name, int(row), 0.0, f"{counted(pixels, 'tissue pixel')}"))
    rows, values = stain_outliers.from_table(table)
    if not len(rows):
        return
    kept = rng.choice(len(rows), min(DOTS_PER_SLIDE, len(rows)), replace=False)
    found.dots = values[kept]
    if len(rows) < ENOUGH_TILES:
        return
    distances = stain_outliers.deviations(values)
    worst = distances.max(axis=1)
    found.judged, found.unusual = len(rows), int((worst > LIMIT).sum())
    for place in np.argsort(-worst, kind="stable")[:CANDIDATES]:
        if worst[place] > LIMIT:
            label = stain_outliers.LABELS[int(distances[place].argmax())]
            why = f"{label}, {worst[place]:.1f} deviations"
            found.odd.append(_tile(table, found.name, int(rows[place]), float(worst[place]), why))


def _tile(table: pa.Table, slide: str, row: int, score: float, why: str) -> Tile:
    value = table.slice(row, 1).to_pylist()[0]
    x, y, side, offset, length = (value[name] for name in ("x", "y", "side", "offset", "length"))
    he, max_c = (None if value[name] is None else tuple(value[name]) for name in ("he", "max_c"))
    return Tile(slide, x, y, side, offset, length, value["stain_status"], he, max_c, score, why)


def judge(slides: list[Measured]) -> None:
    """Write down what deserves a look on each slide, compared with the others."""
    for slide in slides:
        _flag_alone(slide)
    places = {slide.name: slide for slide in slides}
    for code, names in unlike_others(slides).items():
        for name in names:
            if code != "no_tissue":  # without a tile, which is a flag of its own
                places[name].flags.append(Flag("unlike", UNLIKE.get(code, 10), in_words_of(code)))
    filled = [slide for slide in slides if slide.focus is not None]
    if len(filled) < ENOUGH_SLIDES:
        return
    usual = float(np.median([slide.marker.tiles for slide in filled]))
    focus = np.array([slide.focus for slide in filled], np.float64)
    middle = float(np.median(focus))
    scale = max(1.4826 * float(np.median(np.abs(focus - middle))), FOCUS_FLOOR)
    for slide, sharpness in zip(filled, focus.tolist(), strict=True):
        tiles = slide.marker.tiles
        if tiles < FEW_TILES * usual:
            text = f"few tiles: {tiles:,}, the median slide has {usual:,.0f}"
            slide.flags.append(Flag("few", 15, text))
        if (middle - sharpness) / scale > LIMIT:
            text = f"blurred: median sharpness {10**sharpness:,.0f}, usual {10**middle:,.0f}"
            slide.flags.append(Flag("blurred", 20, text))
    fitted = [(slide, slide.marker.stain_fit) for slide in filled if slide.marker.stain_fit is not None]
    if len(fitted) >= ENOUGH_SLIDES:
        values = stain_outliers.numbers([fit.he for _, fit in fitted], [fit.max_c for _, fit in fitted])
        for (slide, _), distances in zip(fitted, stain_outliers.deviations(values), strict=True):
            worst = int(distances.argmax())
            if distances[worst] > LIMIT:
                what = f"{stain_outliers.LABELS[worst]}, {distances[worst]:.1f} deviations"
                weight = 20 + min(20.0, float(distances[worst]))
                slide.flags.append(Flag("stain", weight, f"stain unlike the other slides: {what}"))
    for slide in slides:
        slide.flags.sort(key=lambda flag: -flag.weight)


def unlike_others(slides: list[Measured]) -> dict[str, list[str]]:
    """Names of the slides that are unlike the others, by code (slides.unlike); none of imported tiles."""
    markers = {
        slide.name: slide.marker
        for slide in slides
        if isinstance(slide.marker, SlideMarker) and slide.marker.mpp is not None  # what a file claims, too
    }
    return unlike.by_note(
        {name: marker.notes for name, marker in markers.items()},
        {name: marker.mpp for name, marker in markers.items()},
    )


def _flag_alone(slide: Measured) -> None:
    marker, tiles = slide.marker, slide.marker.tiles
    if slide.problem:
        slide.flags.append(Flag("damaged", 200, f"damaged: {slide.problem}"))
    if marker.left_out:
        return
    damaged = marker.counts.get("damaged", 0)
    if damaged:
        slide.flags.append(Flag("images", 50, f"{counted(damaged, 'image')} damaged or missing: left out"))
    if not tiles and damaged:
        return
    if not tiles:
        little = marker.counts.get("little_tissue", 0)
        reason = f"{counted(little, 'square')} had too little tissue" if little else "no tissue was found"
        if slide.poor:
            reason = f"the quality filters dropped all {counted(slide.poor, 'tile')} of tissue"
        slide.flags.append(Flag("empty", 100, f"no tile kept: {reason}"))
        return
    unfitted, borrowed = (marker.stain.get(status, 0) for status in ("unfitted", "slide_fit"))
    if unfitted:
        text = f"{unfitted:,} of {counted(tiles, 'tile')} without any stain fit: left as they were"
        slide.flags.append(Flag("unfitted", 30, text))
    if borrowed > BORROWED * tiles:
        text = f"{borrowed:,} of {counted(tiles, 'tile')} took the slide's stain fit"
        slide.flags.append(Flag("borrowed", 15, text))
    if marker.mpp_source == "--default-mpp":
        text = f"MPP {marker.mpp:g} was assumed (--default-mpp): the file does not state it"
        slide.flags.append(Flag("mpp", 5, text))
