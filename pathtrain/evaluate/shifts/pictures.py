"""Figures of robustness: tiles by their features, coloured by class and by column; and the drop."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pathprep.storage import atomic
from pathtrain.evaluate.figure_text import drawn
from pathtrain.evaluate.shifts.cohort import Cohort
from pathtrain.evaluate.statistics import Doubles, Floats, Ints, unit
from pathtrain.params.robustness import RobustnessParams

PERPLEXITY = 30
SHOWN = 20  # names in a legend


def write(
    folder: Path, features: Floats, cohort: Cohort, result: dict[str, Any], params: RobustnessParams
) -> dict[str, str]:
    """Write the figures that the result allows; their file names.

    Args:
        folder: created. features: (N, D) of the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_alone(folder / "robustness.png", scattered(features, cohort, result, params))
    found = {"tiles": "robustness.png"}
    if result["results"][0].get("drop_scores"):
        atomic.write_alone(folder / "performance-drop.png", curves(result))
        found["drop"] = "performance-drop.png"
    return found


def place(features: Floats, picture: str, seed: int) -> Doubles:
    """(n, 2) where tiles lie."""
    points = unit(features)
    if picture == "pca":
        return np.asarray(PCA(2, random_state=seed).fit_transform(points), dtype=np.float64)
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(points)
    return np.asarray(found, dtype=np.float64)


def scattered(features: Floats, cohort: Cohort, result: dict[str, Any], params: RobustnessParams) -> bytes:
    """PNG: a panel coloured by class, where there are labels, and one by column."""
    rng = np.random.default_rng(params.seed)
    rows = rng.permutation(len(cohort))[
        : params.picture_tiles
    ]  # in random order, so that none hides the others
    flat = place(features[rows], params.picture, params.seed)
    panels = [(cohort.by, cohort.column, cohort.values)]
    if cohort.labels is not None:
        panels.insert(0, ("class", cohort.labels, cohort.classes))
    shown = Figure(figsize=(5.6 * len(panels), 4.8), dpi=130, layout="constrained")
    for axes, (title, numbers, names) in zip(
        shown.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        _panel(axes, flat, numbers[rows], names)
        axes.set_title(drawn(f"by {title}"), fontsize=10)
    row = result["results"][0]
    figures = [f"robustness index {row['index']:.2f}"] if row.get("index") is not None else []
    figures += (
        [f"own share {row['own_share']:.2f}, chance {row['share_chance']:.2f}"] if "own_share" in row else []
    )
    shown.suptitle(f"{drawn(result['model']['name'])}: {'; '.join(figures) or params.picture}", fontsize=11)
    return _png(shown)


def _panel(axes: Any, flat: Doubles, numbers: Ints, names: list[str]) -> None:
    count = len(names)
    colours = np.asarray(
        colormaps["tab10"](range(count)) if count <= 10 else colormaps["turbo"](np.linspace(0, 1, count))
    )
    dot = float(np.clip(12_000 / len(flat), 4, 30))
    axes.scatter(*flat.T, s=dot, linewidths=0, alpha=0.8, c=colours[numbers])
    if count <= SHOWN:
        for number, name in enumerate(names):
            axes.scatter([], [], s=dot, linewidths=0, color=colours[number], label=drawn(name))
        axes.legend(fontsize=6, markerscale=2, frameon=False, loc="best")
    axes.set(xticks=[], yticks=[])


def curves(result: dict[str, Any]) -> bytes:
    """PNG of the score against Cramer's V, a line per kind of features, in domain and out of it."""
    strengths, rows = result["drop"]["cramers_v"], result["results"]
    sides = [("drop_scores", "in domain"), ("drop_outside_scores", "out of domain")]
    sides = [side for side in sides if side[0] in rows[0]]
    shown = Figure(figsize=(5.2 * len(sides), 4), dpi=130, layout="constrained")
    for axes, (key, title) in zip(shown.subplots(1, len(sides), squeeze=False)[0], sides, strict=True):
        for row in rows:
            scores = np.atleast_2d(row[key]).mean(axis=0)  # of several networks a list each
            name = result["model"]["name"] if row["name"] == "model" else row["name"]
            axes.plot(strengths, scores, marker="o", markersize=3, label=drawn(name))
        axes.axhline(1 / len(result["drop"]["classes"]), color="0.6", linewidth=0.8, linestyle=":")
        axes.set_xlabel(drawn(f"Cramer's V of class and {result['by']} in training"))
        axes.set_ylabel("balanced accuracy")
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=7, frameon=False)
    return _png(shown)


def _png(shown: Figure) -> bytes:
    FigureCanvasAgg(shown)
    buffer = io.BytesIO()
    shown.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
