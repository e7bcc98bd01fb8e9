"""A picture of each task: reliability of classes, said against true numbers, survival of two risk groups."""

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pathtrain.evaluate.figure_text import drawn
from pathtrain.evaluate.slide_level.figures import Series, called, png, series

COLUMNS = 4  # panels beside each other
SIDE = 2.9  # inches
HIGH, LOW = "#b40426", "#3b4cc0"
WORDS = {
    "classes": "Reliability: how often the likeliest class is right, by the probability that it is given.",
    "regression": "What is said against what is true.",
    "survival": "Kaplan and Meier's curves of slides above and at most at the median risk.",
}


def task_pictures(result: dict[str, Any]) -> dict[str, bytes]:
    """PNG by the name of the task; none of ordinal and missing ones."""
    found = {}
    _, colours = series(result)
    for task in result["tasks"]:
        if task["missing"] or task["kind"] not in WORDS:
            continue
        rows = task["results"]
        across = min(COLUMNS, len(rows))
        down = -(-len(rows) // across)
        figure = Figure(figsize=(SIDE * across, SIDE * down + 0.3), dpi=110)
        figure.set_layout_engine("constrained")
        FigureCanvasAgg(figure)
        for place, row in enumerate(rows):
            axes = figure.add_subplot(down, across, place + 1)
            name: Series = (row["model"], row["method"])
            axes.set_title(called(name), fontsize=8)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
            _DRAW[task["kind"]](axes, row, colours[name])
        figure.suptitle(drawn(task["name"]), fontsize=9)
        found[task["name"]] = png(figure)
    return found


def _reliability(axes: Any, row: dict[str, Any], colour: Any) -> None:
    bins = row["calibration"]["bins"]
    axes.plot([0, 1], [0, 1], color="#999", lw=0.8, ls="--")
    sizes = 12 + 160 * np.array([one["share"] for one in bins])
    sure, right = ([one[key] for one in bins] for key in ("confidence", "accuracy"))
    axes.plot(sure, right, color=colour, lw=1)
    axes.scatter(sure, right, s=sizes, color=[colour], alpha=0.7, lw=0)
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel(f"probability (ECE {row['calibration']['ece']:.3f})", fontsize=7)
    axes.set_ylabel("right", fontsize=7)


def _scatter(axes: Any, row: dict[str, Any], colour: Any) -> None:
    true, said = np.array(row["pairs"]).T
    ends = min(true.min(), said.min()), max(true.max(), said.max())
    axes.plot(ends, ends, color="#999", lw=0.8, ls="--")
    axes.scatter(true, said, s=9, color=[colour], alpha=0.6, lw=0)
    axes.set_xlabel(f"true (Pearson {row['pearson']['mean']:.2f})", fontsize=7)
    axes.set_ylabel("said", fontsize=7)


def _curves(axes: Any, row: dict[str, Any], colour: Any) -> None:
    groups = row["risk_groups"]
    for name, tint in (("high", HIGH), ("low", LOW)):
        own = groups[name]
        axes.step(
            own["times"], own["survival"], where="post", color=tint, lw=1.3, label=f"{name} ({own['rows']})"
        )
        places = np.searchsorted(own["times"], own["censored"], side="right") - 1
        axes.plot(own["censored"], np.array(own["survival"])[places], "|", color=tint, ms=5)
    p = groups["log_rank_p"]
    axes.set(ylim=(0, 1.02), xlim=(0, None))
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    axes.set_xlabel(f"time (log-rank p {'undefined' if p is None else f'{p:.2g}'})", fontsize=7)
    axes.set_ylabel("without the event", fontsize=7)


_DRAW = {"classes": _reliability, "regression": _scatter, "survival": _curves}
