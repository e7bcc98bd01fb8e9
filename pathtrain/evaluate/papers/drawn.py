"""The figures of a table, as papers have them: the mean against parameters and slides; a radar; bars."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pathprep.storage import atomic
from pathprep.words import counted
from pathtrain.evaluate.figure_text import drawn

Result = dict[str, Any]
AXES = 3  # fewer are no radar
NAMES = ("scatter.png", "bars.png", "radar.png")
COMPARED = 6  # published rows beside the models in radar and bars: the best


def write(path: Path, picture: bytes) -> None:
    """Write a picture, its folder made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_alone(path, picture)


def figures(result: Result) -> dict[str, bytes]:
    """PNGs by file name: of NAMES none where no task is there; a radar only of three tasks and more."""
    if not result["present"]:
        return {}
    found = {"scatter.png": scatter(result), "bars.png": bars(result)}
    return found | ({"radar.png": radar(result)} if len(result["present"]) >= AXES else {})


def scatter(result: Result) -> bytes:
    """Mean figure against parameters and against training slides."""
    shown = Figure(figsize=(11, 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(shown)
    points = [
        (entry["model"]["name"], entry["rows"][0]["mean"], entry["parameters"], entry["slides"], False)
        for entry in result["models"]
        if entry["rows"]
    ]
    points += [
        (f"{row['name']} (published)", row["mean"], row["parameters"], row["slides"], True)
        for row in result["published"]
    ]
    points = [point for point in points if point[1] is not None]
    axes = shown.subplots(1, 2, sharey=True)
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for number, (name, mean, parameters, slides, published) in enumerate(points):
        style: dict[str, Any] = {"color": colours[number % len(colours)], "linestyle": "none"}
        style |= {"marker": "*", "markersize": 11} if published else {"marker": "o", "markersize": 8}
        # what is not known, or none, is in the legend alone
        axes[0].plot(parameters or np.nan, mean, label=drawn(name), **style)
        axes[1].plot(slides or np.nan, mean, **style)
    for place, words in zip(axes, ("parameters", "training slides"), strict=True):
        place.set(xscale="log", xlabel=words)
        place.margins(0.1, 0.1)
        place.grid(alpha=0.3)
    mean_of = counted(len(result["present"]), "task")
    axes[0].set_ylabel(f"mean of {mean_of}: {drawn(result['paper']['figure'])}")
    unknown = sum(not point[3] for point in points)
    if unknown:
        axes[1].set_title(
            f"without {counted(unknown, 'model')} of no slides, or of an unknown number", fontsize=7
        )
    if points:
        shown.legend(loc="outside right center", fontsize=7)
    return _png(shown)


def _lines(result: Result) -> Iterator[tuple[str, list[float], bool]]:
    """Name, a figure per present column (NaN where there is none), and whether it is published."""
    present = result["present"]

    def of(figures: dict[str, float]) -> list[float]:
        return [figures.get(key, float("nan")) for key in present]

    for entry in result["models"]:
        if entry["rows"]:
            yield entry["model"]["name"], of(entry["rows"][0]["figures"]), False
    ranked = sorted(result["published"], key=lambda row: -(row["mean"] or 0))
    for row in sorted(ranked[:COMPARED], key=lambda row: ranked.index(row)):
        yield f"{row['name']} (published)", of(row["figures"]), True


def _titles(result: Result) -> list[str]:
    titles = {column["key"]: column["title"] for column in result["columns"]}
    return [drawn(titles[key]) for key in result["present"]]


def radar(result: Result) -> bytes:
    """A spoke per task, from the lowest figure shown to the highest, each spoke on its own scale."""
    lines, titles = list(_lines(result)), _titles(result)
    values = np.array([figures for _, figures, _ in lines])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    scaled = 0.15 + 0.85 * (values - low) / np.maximum(high - low, 1e-9)
    angles = np.linspace(0, 2 * np.pi, len(titles), endpoint=False)
    shown = Figure(figsize=(8.5, 6.5), dpi=130, layout="constrained")
    FigureCanvasAgg(shown)
    axes = shown.add_subplot(projection="polar")
    for number, (name, _, published) in enumerate(lines):
        ring = np.append(scaled[number], scaled[number, 0])
        style = {"linewidth": 1.0, "alpha": 0.6, "linestyle": "--"} if published else {"linewidth": 2.2}
        axes.plot(np.append(angles, angles[0]), ring, color=f"C{number % 10}", label=drawn(name), **style)
    axes.set_xticks(angles)
    axes.set_xticklabels(
        [f"{title}\n{a:.2f} to {b:.2f}" for title, a, b in zip(titles, low, high, strict=True)], fontsize=7
    )
    axes.set_yticks([])
    axes.set_ylim(0, 1.05)
    shown.legend(loc="outside right center", fontsize=7)
    return _png(shown)


def bars(result: Result) -> bytes:
    """A group of bars per task, a bar per model and published row; whiskers are intervals of the models'."""
    lines, titles = list(_lines(result)), _titles(result)
    shown = Figure(figsize=(max(6.0, 1.1 * len(titles) + 3), 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(shown)
    axes = shown.subplots()
    wide = 0.85 / max(len(lines), 1)
    ends = {
        entry["model"]["name"]: [entry["rows"][0]["intervals"].get(key) for key in result["present"]]
        for entry in result["models"]
        if entry["rows"]
    }
    for number, (name, values, published) in enumerate(lines):
        places = np.arange(len(titles)) + (number - (len(lines) - 1) / 2) * wide
        axes.bar(
            places, values, wide, color=f"C{number % 10}", alpha=0.45 if published else 1, label=drawn(name)
        )
        for place, value, interval in zip(places, values, ends.get(name, []), strict=False):
            if interval is not None and not published:
                axes.plot([place, place], interval, color="black", linewidth=0.9)
                axes.plot(place, value, marker="_", color="black")
    axes.set_xticks(np.arange(len(titles)))
    axes.set_xticklabels(titles, fontsize=8)
    finite = np.array([values for _, values, _ in lines], dtype=float)
    axes.set_ylim(min(0.0, float(np.nanmin(finite))), max(1.0, float(np.nanmax(finite))))
    axes.set_ylabel(drawn(result["paper"]["figure"]))
    shown.legend(loc="outside right center", fontsize=7)
    axes.grid(axis="y", alpha=0.3)
    return _png(shown)


def _png(shown: Figure) -> bytes:
    buffer = io.BytesIO()
    shown.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
