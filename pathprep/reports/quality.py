"""The page's quality section: the reader drags the filters' thresholds and sees which tiles would stay.

The page carries the figures of all tiles, kept and dropped, or of a random sample, in the 32 bits that qc
compares, and small pictures of tiles from the worst to the best by every figure. All else happens in the
browser (quality.js).
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from markupsafe import Markup
from PIL import Image

from pathprep.dataset.marker import Marker, SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.images import jpeg
from pathprep.page.environment import jpeg_uri
from pathprep.page.text import shown
from pathprep.params.quality import RULES, Rule, in_words, was_dropped
from pathprep.pseudonyms.slides import Pseudonyms
from pathprep.reports import slide_pixels
from pathprep.reports.measure import Measured
from pathprep.reports.slide_pixels import Wanted, reduced
from pathprep.slides.readers.base import Pixels

MAX_TILES = 20_000  # 27 bytes each in the page, and a few milliseconds for every step of a slider
EXAMPLES = 14  # by each figure
SIDE = 112  # pixels of an example

Floats = npt.NDArray[np.float64]

_PEN = (0.0, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2,
        0.3, 0.4, 0.5, 0.75, 1.0)  # fmt: skip
_E12 = (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2)
_FOCUS = (0.0, *(round(step * 10**power, 6) for power in range(5) for step in _E12), 1e5)
_SHARE = tuple(round(0.02 * step, 2) for step in range(51))


@dataclass(frozen=True)
class _Shown:
    """Title, explanation and the thresholds that a slider stops at."""

    title: str
    text: str
    stops: tuple[float, ...]


SHOWN = {
    "focus": _Shown("Focus", "Variance of the Laplacian, grey levels squared; low is blurred.", _FOCUS),
    "pen": _Shown("Pen marks", "Share of pixels in the colours of green, blue, red or black ink.", _PEN),
    "white": _Shown("White", "Share of pixels with all channels at 220 or more.", _SHARE),
    "hsv": _Shown(
        "Colour of tissue",
        "Share of pixels with H 90-180, S 8-255, V 103-255; Virchow and Midnight ask for 0.6.",
        _SHARE,
    ),
}
_MOST = float(np.finfo(np.float32).max)
COLUMNS = ["x", "y", "side", *SHOWN]


@dataclass(frozen=True)
class Sample:
    """Tiles, kept and dropped, at random.

    Attributes:
        total: tiles of the dataset that the sample stands for.
        slides: names; ``slide`` (n,) numbers them.
        figures: (n, 4) in the order of SHOWN.
        place: (n, 3) level-0 x, y, side. member: (n, 2) offset and length in the tar, -1 of a dropped tile.
    """

    total: int
    slides: list[str]
    slide: npt.NDArray[np.int64]
    figures: Floats
    place: npt.NDArray[np.int64]
    member: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.slide)


def content(
    dataset: Dataset, slides: list[Measured], seed: int, secret: Pseudonyms | None = None
) -> dict[str, Any] | None:
    """What quality.html shows; None if the dataset has no tiles."""
    found = sample(dataset, slides, seed)
    if not len(found):
        return None
    if np.isnan(found.figures).any():  # a version before that measured them wrote null, or no such column
        return {"old": True}
    examples, problems = _examples(dataset, found, seed, secret)
    thresholds: dict[str, float] = dataset.params.get("qc", {})
    data = {
        "slides": [shown(name) for name in found.slides],
        "slide": _base64(found.slide, "<u4"),
        "rules": [
            {
                "reason": rule.reason,
                "figure": rule.figure,
                "option": rule.option,
                "least": rule.least,
                "values": _base64(found.figures[:, place], "<f4"),
                **_stops(rule, thresholds.get(rule.parameter)),
            }
            for place, rule in enumerate(RULES)
        ],
        "examples": examples,
    }
    return {
        "old": False,
        # what could end the script element is written as an escape
        "data": Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
        "rules": [(rule, SHOWN[rule.figure]) for rule in RULES],
        "sampled": len(found),
        "total": found.total,
        "filtered": bool(thresholds),
        "now": in_words(thresholds),
        "examples": len(examples),
        "problems": problems,
    }


def _stops(rule: Rule, threshold: float | None) -> dict[str, Any]:
    """A slider's stops, the one that turns the filter off, and the one of this dataset."""
    off = 0.0 if rule.least else 1.0
    now = off if threshold is None else float(threshold)
    stops = sorted({*SHOWN[rule.figure].stops, now})
    return {"stops": stops, "off": stops.index(off), "now": stops.index(now)}


def _base64(values: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def sample(dataset: Dataset, slides: list[Measured], seed: int) -> Sample:
    """At most MAX_TILES tiles, every one with the same chance; slides that cannot be read are left out."""
    sound = [slide for slide in slides if not slide.problem]
    counts = [_tiles(slide.marker) for slide in sound]
    starts = np.cumsum([0, *counts])
    total = int(starts[-1])
    rng = np.random.default_rng([seed, 1])
    chosen = np.sort(rng.choice(total, min(total, MAX_TILES), replace=False))
    names: list[str] = []
    parts = []
    for number, slide in enumerate(sound):
        low, high = np.searchsorted(chosen, starts[number : number + 2])
        if low == high:
            continue
        try:
            rows = _rows(dataset, slide.name)[chosen[low:high] - starts[number]]
        except (DatasetError, IndexError):
            continue  # the slide is flagged as damaged, or its counts are not its rows: `pathprep verify`
        parts.append(np.column_stack([np.full(len(rows), len(names)), rows]))
        names.append(slide.name)
    table = np.concatenate(parts) if parts else np.empty((0, 10))
    # JSON has no infinity: the page would be one that cannot be read
    table[:, 4:8] = np.clip(table[:, 4:8], -_MOST, _MOST)
    whole = np.rint(table[:, [0, 1, 2, 3, 8, 9]]).astype(np.int64)
    return Sample(total, names, whole[:, 0], table[:, 4:8], whole[:, 1:4], whole[:, 4:6])


def _tiles(marker: Marker) -> int:
    dropped = sum(count for reason, count in marker.counts.items() if was_dropped(reason))
    return marker.tiles + dropped


def _rows(dataset: Dataset, name: str) -> Floats:
    """(n, 9): x, y, side, the figures, offset, length of a slide's kept tiles, then of its dropped ones."""
    kept = dataset.table(name, [*COLUMNS, "offset", "length"])
    dropped = dataset.dropped(name, COLUMNS)
    missing = np.full((dropped.num_rows, 2), -1.0)
    return np.concatenate([_matrix(kept), np.column_stack([_matrix(dropped), missing])])


def _matrix(table: pa.Table) -> Floats:
    return np.column_stack([table[name].to_numpy().astype(np.float64) for name in table.column_names])


def _examples(
    dataset: Dataset, found: Sample, seed: int, secret: Pseudonyms | None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Pictures of some tiles with their figures; slides whose tiles could not be shown, and why."""
    chosen = chosen_examples(found)
    rng = np.random.default_rng([seed, 2])
    pictures, problems = _pictures(dataset, found, rng.permutation(chosen).tolist(), secret)
    examples = [
        {
            "slide": int(found.slide[tile]),
            "x": int(found.place[tile, 0]),
            "y": int(found.place[tile, 1]),
            "values": found.figures[tile].tolist(),
            "shown": _shown(found.figures[tile]),
            "picture": jpeg_uri(Image.fromarray(reduced(picture, SIDE))),
        }
        for tile, picture in pictures.items()
    ]
    return examples, problems


def _shown(figures: Floats) -> str:
    focus, *shares = figures.tolist()
    named = zip(list(SHOWN)[1:], shares, strict=True)
    said = f"{focus:,.0f}" if focus >= 10 else f"{focus:.2g}"
    return ", ".join(
        [f"focus {said}", *(f"{name} {100 * share:.1f}\N{NO-BREAK SPACE}%" for name, share in named)]
    )


def chosen_examples(found: Sample) -> npt.NDArray[np.int64]:
    """By each figure the worst tile, the best, and between them ever larger steps."""
    ranks = np.unique(np.rint(np.geomspace(1, len(found), EXAMPLES)).astype(np.int64)) - 1
    orders = [
        np.argsort(found.figures[:, place] if rule.least else -found.figures[:, place], kind="stable")[ranks]
        for place, rule in enumerate(RULES)
    ]
    return np.unique(np.concatenate(orders))


def _pictures(
    dataset: Dataset, found: Sample, chosen: list[int], secret: Pseudonyms | None
) -> tuple[dict[int, Pixels], dict[str, str]]:
    """Tiles as they were measured: stored ones from the tar, normalised and dropped ones from their slide.

    Imported tiles have no slide: they are shown as they are stored.
    """
    pictures: dict[int, Pixels] = {}
    problems: dict[str, str] = {}
    from_slides: dict[str, list[int]] = {}
    plain = dataset.kind == "tiles" or dataset.params["stain"]["mode"] != "bake"
    for tile in chosen:
        name, (offset, length) = found.slides[found.slide[tile]], found.member[tile].tolist()
        if not plain or offset < 0:
            from_slides.setdefault(name, []).append(tile)
            continue
        try:
            pictures[tile] = jpeg.decode(dataset.read(name, offset, length))
        except (DatasetError, ValueError) as error:
            problems[name] = f"a stored tile cannot be read: {error}"
    wanted = []
    for name, tiles in from_slides.items():
        marker = dataset.markers[name]
        boxes = [(x, y, side) for x, y, side in found.place[tiles].tolist()]
        if isinstance(marker, SlideMarker):
            wanted.append(Wanted(marker, boxes))
    for before in slide_pixels.read(wanted, SIDE, secret):
        if before.problem:
            problems[before.slide] = before.problem
        pictures |= dict(zip(from_slides[before.slide], before.pictures, strict=False))
    return {tile: pictures[tile] for tile in chosen if tile in pictures}, problems
