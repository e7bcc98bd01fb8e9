"""What the viewer draws over a slide: tissue, tiles and scores, as JSON with packed arrays."""

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import SHARE
from pathprep.errors import DatasetError, UsageError
from pathprep.params.notes import in_words
from pathprep.params.origin import Origin
from pathprep.params.shard import ShardParams
from pathprep.scores import colours
from pathprep.scores.columns import Classes
from pathprep.scores.placed import Placed
from pathprep.sharding.survey import Survey
from pathprep.slides import outlines
from pathprep.slides.geojson import Ring, parse_geojson
from pathprep.storage.printable import printable

# States of tiles that no quality filter names
KEPT, LITTLE, SMALL = "kept", "too little tissue", "in a piece of tissue that is too small"
MAPS: tuple[colours.Map, ...] = ("viridis", "cividis", "coolwarm")
NO_FIGURES = ("x", "y", "column", "row", "region", "side", "stored", "mpp", "offset", "length", "crc32")


@dataclass(frozen=True)
class Layers:
    """Tissue and tiles.

    Attributes:
        polygons: of tissue, [outline, hole, ...] each, level-0 pixels.
        x, y: (N,) of tiles, level-0 pixels. side: of all of them.
        states: what becomes of tiles. state: (N,) of each.
        figures: (N,) by name. measured: whether the quality figures are among them.
        notes: in sentences. source: where all this comes from.
    """

    polygons: list[list[Ring]]
    x: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    side: int
    states: list[str]
    state: npt.NDArray[np.int64]
    figures: dict[str, npt.NDArray[np.float64]]
    measured: bool
    source: str
    notes: list[str] = field(default_factory=list)


def of_survey(seen: Survey, params: ShardParams, width: int, height: int) -> Layers:
    """As `pathprep shard` would cut the slide, but for cells without tissue, which are left out.

    Of its quality filters, those by shares of the tissue model's classes have been at work; the others need
    the tiles' own pixels.
    """
    state = np.where(seen.share > 0, 1, -1)
    if seen.swallowed is not None:
        state[seen.swallowed] = 2
    state[seen.kept[:, 1], seen.kept[:, 0]] = 0
    states = [KEPT, LITTLE, SMALL]
    for name, most in params.qc.shares().items():
        over = seen.shares[name].astype(np.float32) > np.float32(most)  # as shard compares
        state[(state == 0) & over] = len(states)
        states.append(f"{SHARE}{name}")
    rows, columns = np.nonzero(state >= 0)
    return Layers(
        outlines.contours(seen.mask, width, height),
        columns * seen.plan.stride,
        rows * seen.plan.stride,
        seen.plan.side,
        states,
        state[rows, columns],
        {
            "tissue": seen.share[rows, columns].astype(np.float64),
            **{f"{SHARE}{name}": share[rows, columns] for name, share in seen.shares.items()},
        },
        measured=False,
        source="as `pathprep shard` would cut it",
        notes=[in_words(note) for note in seen.notes],
    )


def of_dataset(dataset: Dataset, marker: SlideMarker) -> Layers:
    """As a slide was cut: its tiles, and those that quality filters dropped.

    Raises:
        DatasetError: a file of the slide cannot be read.
    """
    kept, dropped = dataset.table(marker.slide), dataset.dropped(marker.slide)
    reasons = dropped["reason"].to_pylist()
    states = [KEPT, *dict.fromkeys(reasons)]
    state = [0] * len(kept) + [states.index(reason) for reason in reasons]
    names = [name for name in kept.column_names if name not in NO_FIGURES and _is_figure(kept[name].type)]
    return Layers(
        _tissue(dataset, marker),
        np.concatenate([_column(kept, "x"), _column(dropped, "x")]).astype(np.int64),
        np.concatenate([_column(kept, "y"), _column(dropped, "y")]).astype(np.int64),
        marker.grid.side,
        states,
        np.asarray(state, np.int64),
        {
            name: np.concatenate([_column(kept, name), _column(dropped, name)])
            for name in names
            if not (kept[name].null_count == len(kept) and len(kept))
        },
        measured=True,
        source=f"of {dataset.root}",
        notes=[in_words(note) for note in marker.notes],
    )


def slide_in(dataset: Dataset, called: str, mpp: float) -> SlideMarker:
    """A slide of a dataset, by its own name; of several resolutions, that of ``mpp``.

    Raises:
        UsageError: it is not in it, or only at other resolutions.
    """
    markers = {name: one for name, one in dataset.markers.items() if isinstance(one, SlideMarker)}
    found = [one for one in markers.values() if one.own_name == called]
    if not found:
        name = dataset.slide_names(markers).find(called)
        found = [markers[name]] if name is not None else []
    if len(found) > 1:
        at = sorted({one.target_mpp for one in found if one.target_mpp is not None})
        found = [one for one in found if one.target_mpp == mpp]
        if len(found) != 1:
            raise UsageError(
                f"{dataset.root}: has slide {printable(called)} at several `mpp`: "
                f"{', '.join(f'{each:g}' for each in at)}; name one of them"
            )
    if not found:
        raise UsageError(
            f"{dataset.root}: no slide {printable(called)}; leave `dataset` out to look at the slide as it "
            "would be cut"
        )
    return found[0]


def _is_figure(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _column(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    return np.asarray(table[name].cast(pa.float64()).fill_null(np.nan).to_numpy(), np.float64)


def _tissue(dataset: Dataset, marker: SlideMarker) -> list[list[Ring]]:
    name = f"previews/{marker.slide}.geojson"
    data = dataset.storage.read(name)
    if data is None:
        return []
    try:
        drawing = parse_geojson(data)
    except ValueError as error:
        raise DatasetError(f"{dataset.root}/{name}: {error}; `pathprep repair` makes it anew") from None
    bounds = marker.bounds
    corner: Any = (0, 0) if bounds is None else (bounds.x, bounds.y)
    origin: Origin = "bounds" if bounds is not None else "slide"
    if drawing.stated is not None:
        origin, corner = drawing.stated.origin, drawing.stated.corner
    shift = np.asarray(corner, np.float64) if origin == "bounds" else np.zeros(2)
    return [[ring + shift for ring in polygon.rings] for polygon in drawing.polygons]


def as_json(layers: Layers | None) -> dict[str, Any] | None:
    """Tissue and tiles for the page."""
    if layers is None:
        return None
    return {
        "polygons": [[_packed(ring.ravel(), "<f4") for ring in polygon] for polygon in layers.polygons],
        "x": _packed(layers.x, "<i4"),
        "y": _packed(layers.y, "<i4"),
        "side": layers.side,
        "states": [printable(name) for name in layers.states],
        "state": _packed(layers.state, "<u1"),
        "figures": {printable(name): _packed(values, "<f4") for name, values in layers.figures.items()},
        "measured": layers.measured,
        "source": printable(layers.source),
        "notes": [printable(note) for note in layers.notes],
    }


def scores_as_json(
    scores: Placed, names: list[str], ranges: dict[str, tuple[float, float]], notes: list[str]
) -> dict[str, Any]:
    """Scores for the page."""
    columns = []
    for name in names:
        column = scores.rows.columns[name]
        if isinstance(column, Classes):
            shown = colours.class_colours(len(column.names)).tolist()
            columns.append(
                {
                    "name": printable(name),
                    "classes": [printable(each) for each in column.names],
                    "colours": shown,
                    "values": _packed(column.codes, "<i2"),
                }
            )
        else:
            low, high = colours.ends(*ranges[name])
            columns.append(
                {"name": printable(name), "low": low, "high": high, "values": _packed(column, "<f4")}
            )
    rows = scores.rows
    return {
        "x": _packed(rows.x, "<i4"),
        "y": _packed(rows.y, "<i4"),
        "side": _packed(rows.side, "<i4"),
        "columns": columns,
        "notes": [printable(note) for note in [*notes, *scores.notes]],
    }


def maps() -> dict[str, str]:
    """The colour maps, 256 x RGB."""
    return {name: _packed(colours.table(name), "<u1") for name in MAPS}


def _packed(values: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()
