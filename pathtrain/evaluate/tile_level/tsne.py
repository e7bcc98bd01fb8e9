"""The figure of the collapse study: a t-SNE of tiles, coloured by slide."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from pathtrain.evaluate.figure_text import drawn
from pathtrain.evaluate.statistics import Ints, unit

if TYPE_CHECKING:
    from pathtrain.evaluate.tile_level.collapse import Sample

Places = npt.NDArray[np.float32]

PERPLEXITY = 30  # van der Maaten's middle value, scikit-learn's default
LEGEND_AT_MOST = 20  # slides; more colours cannot be told apart in a legend


def place(taken: "Sample", per_slide: int, seed: int) -> tuple[Places, Ints]:
    """t-SNE by cosine distance of at most ``per_slide`` tiles of each slide (time grows with the tiles).

    Returns:
        (m, 2) positions and the m row numbers in the sample.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(taken.slide == s))[:per_slide] for s in range(len(taken.slides))]
        )
    )
    # On the unit sphere the Euclidean distance orders pairs as the cosine does
    points = unit(taken.features[rows])
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    flat = TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(points)
    return flat, rows


def figure(taken: "Sample", flat: Places, rows: Ints, result: dict[str, Any]) -> bytes:
    """PNG of the positions, one colour per slide, with the numbers above it."""
    shown = Figure(figsize=(7, 5.5), dpi=130, layout="constrained")
    axes = shown.add_subplot()
    _scatter(axes, taken, flat, rows)
    axes.set_title(f"{drawn(result['model']['name'])}: {_numbers(result)}", fontsize=10)
    return _png(shown, axes, taken)


def panels(samples: Sequence["Sample"], places: Sequence[tuple[Places, Ints]], results: list[Any]) -> bytes:
    """PNG of several samples of the same slides side by side, a slide in the same colour in all."""
    shown = Figure(figsize=(5 * len(samples) + 1, 5.2), dpi=130, layout="constrained")
    every = shown.subplots(1, len(samples), squeeze=False)[0]
    for axes, taken, (flat, rows), result in zip(every, samples, places, results, strict=True):
        _scatter(axes, taken, flat, rows)
        low, high = result["silhouette_interval"]
        axes.set_title(
            f"({result['panel']}) {drawn(result['title'])}\n{_numbers(result)}\n"
            f"silhouette {result['silhouette']:+.2f} [{low:+.2f}, {high:+.2f}], "
            f"chance {result['silhouette_chance']:+.2f}",
            fontsize=9,
        )
    return _png(shown, every[0], samples[0])


def _scatter(axes: Axes, taken: "Sample", flat: Places, rows: Ints) -> None:
    count = len(taken.slides)
    colours = (
        colormaps["tab10"](range(count)) if count <= 10 else colormaps["turbo"](np.linspace(0, 1, count))
    )
    dot = float(np.clip(12_000 / len(rows), 4, 30))  # square points: crowds of dots stay apart
    # in random order, so that no slide lies on top of the others everywhere
    order = np.random.default_rng(0).permutation(len(rows))
    x, y = flat[order].T
    axes.scatter(x, y, s=dot, linewidths=0, alpha=0.8, c=np.asarray(colours)[taken.slide[rows[order]]])
    for number, name in enumerate(taken.slides):
        axes.scatter([], [], s=dot, linewidths=0, color=colours[number], label=drawn(name))
    axes.set(xticks=[], yticks=[])


def _numbers(result: dict[str, Any]) -> str:
    low, high = result["excess_interval"]
    return (
        f"own share {result['own_share']:.2f}, chance {result['chance']:.2f}, "
        f"excess {result['excess']:.2f} [{low:.2f}, {high:.2f}]"
    )


def _png(shown: Figure, axes: Axes, taken: "Sample") -> bytes:
    FigureCanvasAgg(shown)
    if len(taken.slides) <= LEGEND_AT_MOST:
        handles, names = axes.get_legend_handles_labels()
        shown.legend(handles, names, loc="outside right upper", fontsize=7, markerscale=2, frameon=False)
    buffer = io.BytesIO()
    shown.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
