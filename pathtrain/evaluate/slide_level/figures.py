"""Pictures of slide-level results: radar and bars of each task's figure, and attention over thumbnails."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.words import command
from pathtrain.evaluate.baselines import HANDMADE
from pathtrain.evaluate.figure_text import drawn
from pathtrain.evaluate.slide_level.attention import ranks
from pathtrain.evaluate.slide_level.runs import Attention
from pathtrain.features.bags import Bags
from pathtrain.params.tasks import FIGURES

Pixels = npt.NDArray[np.uint8]
Series = tuple[str, str]  # model and method

SIDE = 480  # pixels of a heat map's longer side
OPACITY = 0.5
GREYS = dict(zip(HANDMADE, ("#999999", "#555555"), strict=True))
COLOURS = "coolwarm"  # as CLAM's figures: red is high, blue is low


@dataclass(frozen=True)
class Heatmap:
    """One slide as it is, and with its attention over it.

    Attributes:
        attention: what is shown.
        plain: JPEG.
        overlay: JPEG, of the same size.
    """

    attention: Attention
    plain: bytes
    overlay: bytes


def charts(result: dict[str, Any]) -> dict[str, bytes]:
    """PNG by name: ``bars``, and ``radar`` if there are three tasks or more (missing ones included)."""
    made = {"bars": bars(result)}
    if len(result["tasks"]) >= 3:
        made["radar"] = radar(result)
    return made


def bars(result: dict[str, Any]) -> bytes:
    """Mean of each task's figure, a bar per model and method, with its interval over patients."""
    rows, colours = series(result)
    tasks = result["tasks"]
    figure = Figure(figsize=(max(6.0, 1.6 + len(tasks) * (0.5 + 0.17 * len(rows))), 4.4), dpi=130)
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.84 / len(rows)
    for number, row in enumerate(rows):
        places, means, errors = [], [], []
        for place, task in enumerate(tasks):
            found = _find(task, row)
            if found is None:
                continue
            mean = found["mean"]
            low, high = found["patients_interval"] or (mean, mean)
            places.append(place + (number + 0.5) * width - 0.42)
            means.append(mean)
            errors.append((max(0.0, mean - low), max(0.0, high - mean)))
        axes.bar(places, means, width * 0.92, color=colours[row], label=called(row))
        if places:
            axes.errorbar(places, means, np.transpose(errors), fmt="none", ecolor="#333", lw=0.9, capsize=1.5)
    for place, task in enumerate(tasks):
        if task["missing"]:
            axes.text(place, 0.03, "missing", ha="center", va="bottom", rotation=90, color="#888", fontsize=9)
    names = figures_of(result)
    if set(names) <= {FIGURES["auroc"], FIGURES["c_index"]}:  # chance
        axes.axhline(0.5, color="#777", lw=0.8, ls="--", zorder=0)
    every = [_find(task, row) for task in tasks for row in rows]
    lowest = min((own["mean"] for own in every if own is not None), default=0.0)
    axes.set(xticks=range(len(tasks)), ylim=(min(0.0, lowest), 1.02), xlim=(-0.6, len(tasks) - 0.4))
    axes.set_ylabel(names[0] if len(names) == 1 else ", ".join(names))
    crowded = len(tasks) > 4
    axes.set_xticklabels(
        [drawn(task["name"]) + (f"\n{_figure(task)}" if len(names) > 1 else "") for task in tasks],
        rotation=30 if crowded else 0,
        ha="right" if crowded else "center",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=min(len(rows), 4))
    return png(figure)


def radar(result: dict[str, Any]) -> bytes:
    """Mean of each task's figure, a spoke per task; lines are broken at tasks that are missing."""
    rows, colours = series(result)
    tasks = result["tasks"]
    angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
    values = {
        row: [found["mean"] if (found := _find(task, row)) else np.nan for task in tasks] for row in rows
    }
    figure = Figure(figsize=(6.4, 6.4), dpi=130)
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot(projection="polar")
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    for row in rows:
        closed = [*values[row], values[row][0]]
        axes.plot([*angles, angles[0]], closed, "o-", ms=3.5, lw=1.6, color=colours[row], label=called(row))
    names = [drawn(task["name"]) + ("\n(missing)" if task["missing"] else "") for task in tasks]
    axes.set_xticks(angles, names, fontsize=9)
    axes.tick_params(axis="x", pad=8)
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):  # outside of the circle
        across = np.sin(angle)
        label.set_horizontalalignment("center" if abs(across) < 0.1 else "left" if across > 0 else "right")
    lowest = np.nanmin([value for own in values.values() for value in own])
    axes.set_ylim(min(0.0, lowest) if lowest < 0 else max(0.0, min(0.4, np.floor(10 * lowest) / 10)), 1.0)
    axes.set_rlabel_position(180 / len(tasks))
    axes.tick_params(axis="y", labelsize=8, labelcolor="#777")
    axes.grid(color="#ddd")
    axes.spines["polar"].set_color("#bbb")
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=min(len(rows), 3))
    return png(figure)


def heatmaps(attention: Sequence[Attention], models: Sequence[Bags], dataset: Path | None) -> list[Heatmap]:
    """Attention over the thumbnails of the dataset; none without a dataset, or for features without coords.

    Raises:
        UsageError: the thumbnail of a slide is gone.
    """
    if dataset is None:
        return []
    opened, by_name = Dataset(dataset), {model.name: model for model in models}
    found = []
    for one in (each for each in attention if each.drawn):
        places = by_name[one.model].places(one.slide)
        if places is None:
            continue
        marker = opened.marker(one.slide)
        assert isinstance(marker, SlideMarker)
        path = opened.root / "previews" / f"{one.slide}.jpg"
        try:
            with Image.open(path) as image:
                image.thumbnail((SIDE, SIDE))
                plain = np.asarray(image.convert("RGB"))
        except OSError:
            raise UsageError(f"{path}: no thumbnail; run {command('pathprep repair', dataset)}") from None
        scale = plain.shape[1] / marker.width, plain.shape[0] / marker.height
        overlay = paint(plain, places.coords, places.side, one.scores, scale)
        found.append(Heatmap(one, _jpeg(plain), _jpeg(overlay)))
    return found


def paint(
    plain: Pixels,
    coords: npt.NDArray[np.int64],
    side: int,
    scores: npt.NDArray[np.float32],
    scale: tuple[float, float],
) -> Pixels:
    """Colour each tile by the rank of its attention on this slide (as CLAM: percentiles, not values).

    Args:
        plain: (H, W, 3), the thumbnail.
        coords: (N, 2), x and y in level-0 pixels.
        side: of a tile, level-0 pixels.
        scores: (N,), any monotone form of attention.
        scale: thumbnail pixels per level-0 pixel, along x and y.
    """
    colours = 255 * colormaps[COLOURS](ranks(scores))[:, :3]
    painted = plain.astype(np.float64)
    starts = np.rint(coords * scale).astype(int)
    ends = np.maximum(np.rint((coords + side) * scale).astype(int), starts + 1)
    for (left, top), (right, bottom), tint in zip(starts, ends, colours, strict=True):
        part = plain[top:bottom, left:right]
        painted[top:bottom, left:right] = (1 - OPACITY) * part + OPACITY * tint
    return np.rint(painted).astype(np.uint8)


def series(result: dict[str, Any]) -> tuple[list[Series], dict[Series, Any]]:
    """Model and method of every row, and their colours; what pixels alone say is grey."""
    rows = list(dict.fromkeys((r["model"], r["method"]) for t in result["tasks"] for r in t["results"]))
    own = [row for row in rows if row[0] not in HANDMADE]
    palette = (
        colormaps["tab10"](range(10))
        if len(own) <= 7
        else colormaps["turbo"](np.linspace(0.05, 0.95, len(own)))
    )
    palette = palette[[i for i in range(len(palette)) if i != 7]] if len(own) <= 7 else palette  # 7 is grey
    colours = {row: palette[number] for number, row in enumerate(own)}
    return rows, {**colours, **{row: GREYS[row[0]] for row in rows if row[0] in HANDMADE}}


def figures_of(result: dict[str, Any]) -> list[str]:
    """What the tasks are told by, in the words of charts and tables."""
    return list(dict.fromkeys(_figure(task) for task in result["tasks"] if not task["missing"]))


def _figure(task: dict[str, Any]) -> str:
    return "" if task["missing"] else FIGURES[task["figure"]]


def _find(task: dict[str, Any], row: Series) -> dict[str, Any] | None:
    return next((r[task["figure"]] for r in task["results"] if (r["model"], r["method"]) == row), None)


def called(row: Series) -> str:
    """What a chart calls it."""
    return f"{row[0]} alone" if row[0] in HANDMADE else f"{drawn(row[0])}, {drawn(row[1])}"


def png(figure: Figure) -> bytes:
    """The picture's bytes, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _jpeg(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
