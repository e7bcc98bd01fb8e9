"""The figure of calibration: how often tiles are right, against how sure they are of it."""

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pathtrain.evaluate.figure_text import drawn


def figure(result: dict[str, Any]) -> bytes:
    """PNG of the bins of each row of a result with ``reliability``; larger points have more tiles."""
    shown = Figure(figsize=(5.5, 5), dpi=130, layout="constrained")
    FigureCanvasAgg(shown)
    axes = shown.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    for number, row in enumerate(result["results"]):
        bins = [each for each in row["reliability"] if each["tiles"]]
        most = max(each["tiles"] for each in bins)
        x, y = [each["probability"] for each in bins], [each["right"] for each in bins]
        name = result["model"]["name"] if row["name"] == "model" else row["name"]
        axes.plot(x, y, color=f"C{number}", linewidth=1.5 if number == 0 else 0.8)
        sizes = [4 + 60 * each["tiles"] / most for each in bins]
        axes.scatter(x, y, s=sizes, color=f"C{number}", label=f"{drawn(name)}: ECE {row['ece']:.3f}")
    axes.set(xlabel="highest probability", ylabel="share of right tiles", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    shown.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
