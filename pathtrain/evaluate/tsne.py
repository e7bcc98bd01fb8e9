"""The figure of the collapse study: a t-SNE of tiles, coloured by slide."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from pathtrain.evaluate.collapse import Sample
from pathtrain.evaluate.common import unit

PERPLEXITY = 30  # van der Maaten's middle value, scikit-learn's default
LEGEND_AT_MOST = 20  # slides; more colours cannot be told apart in a legend


def place(taken: Sample, per_slide: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
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


def figure(
    taken: Sample, flat: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], result: dict[str, Any]
) -> bytes:
    """PNG of the positions, one colour per slide, with the numbers above it."""
    shown = Figure(figsize=(7, 5.5), dpi=130, layout="constrained")
    FigureCanvasAgg(shown)
    axes = shown.add_subplot()
    count = len(taken.slides)
    colours = (
        colormaps["tab10"](range(count)) if count <= 10 else colormaps["turbo"](np.linspace(0, 1, count))
    )
    dot = float(np.clip(12_000 / len(rows), 4, 30))  # square points: crowds of dots stay apart
    for number, name in enumerate(taken.slides):
        mine = flat[taken.slide[rows] == number]
        axes.scatter(
            mine[:, 0], mine[:, 1], s=dot, linewidths=0, alpha=0.8, color=colours[number], label=name
        )
    axes.set(xticks=[], yticks=[])
    low, high = result["ratio_interval"]
    axes.set_title(
        f"{result['model']['name']}: own share {result['own_share']:.2f}, chance {result['chance']:.2f}, "
        f"ratio {result['ratio']:.1f} [{low:.1f}, {high:.1f}]",
        fontsize=10,
    )
    if len(taken.slides) <= LEGEND_AT_MOST:
        shown.legend(loc="outside right upper", fontsize=7, markerscale=2, frameon=False)
    buffer = io.BytesIO()
    shown.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
