"""What `evaluate hest --out` writes: a table per gene, and pictures of truth beside prediction."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pathprep.storage import atomic
from pathtrain.evaluate.figure_text import drawn
from pathtrain.evaluate.statistics import Doubles

if TYPE_CHECKING:
    from pathtrain.evaluate.expression.study import Predicted

COLUMNS = (
    "task",
    "protocol",
    "features",
    "gene",
    "pearson",
    "low",
    "high",
    "spots_low",
    "spots_high",
    "folds",
)
BEST, SHOWN = 3, 3  # genes, and sections of a picture


def write(out: Path, result: dict[str, Any], predicted: "Sequence[Predicted]") -> list[Path]:
    """Write genes.csv and a <task>.png each.

    Raises:
        OSError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    table = out / "genes.csv"
    atomic.write_bytes(table, as_csv(result).encode())
    paths = [table]
    for task, each in zip(result["tasks"], predicted, strict=True):
        path = out / f"{task['name'].replace('/', '_')}.png"
        atomic.write_bytes(path, picture(task, result["protocols"][0], each))
        paths.append(path)
    return paths


def as_csv(result: dict[str, Any]) -> str:
    """A row per task, protocol, kind of features and gene: mean Pearson over folds, its 95 % interval over
    folds and over squares of tissue, and the folds' values; empty where there is none.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for task in result["tasks"]:
        for protocol, by_name in task["per_gene"].items():
            for name, genes in by_name.items():
                for row in genes:
                    ends = (*(row["interval"] or ("", "")), *(row["spots_interval"] or ("", "")))
                    figures = [_cell(value) for value in (row["pearson"], *ends)]
                    folds = " ".join(_cell(value) or "-" for value in row["folds"])
                    writer.writerow([task["name"], protocol, name, row["gene"], *figures, folds])
    return text.getvalue()


def _cell(value: float | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else ""


def picture(task: dict[str, Any], protocol: str, predicted: "Predicted") -> bytes:
    """PNG: the genes that the model tells best, truth and prediction on the sections, each when it was
    tested.

    Colours reach from the 2nd to the 98th percentile of each panel: the ridge has no intercept, so only the
    order of predictions has a meaning.
    """
    every = predicted.task
    values = np.full(every.values.shape, np.nan)
    for fold, found in predicted.folds:
        values[fold.test] = found
    first = next(iter(task["per_gene"][protocol].values()))
    order = sorted(
        (number for number, row in enumerate(first) if row["pearson"] is not None),
        key=lambda number: -first[number]["pearson"],
    )[:BEST]
    tested = [number for number in range(len(every.sections)) if _tested(values, every.section == number)][
        :SHOWN
    ]
    figure = Figure(figsize=(2.6 * 2 * len(tested), 2.6 * len(order) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_2d(figure.subplots(len(order), 2 * len(tested), squeeze=False))
    for row, gene in enumerate(order):
        for column, number in enumerate(tested):
            here = (every.section == number) & np.isfinite(values[:, gene])
            for side, shown in enumerate((every.values[here, gene], values[here, gene])):
                panel = axes[row, 2 * column + side]
                low, high = np.percentile(shown, [2, 98])
                places = every.places[here]
                dot = 900 / max(np.sqrt(len(shown)), 1) / 4
                panel.scatter(*places.T, c=shown, s=dot, cmap="viridis", vmin=low, vmax=high, linewidths=0)
                panel.set(xticks=[], yticks=[], aspect="equal")
                panel.invert_yaxis()
                if side:
                    panel.set_title(
                        f"predicted, r {_correlation(every.values[here, gene], shown)}", fontsize=8
                    )
                else:
                    name = drawn(every.sections[number].name)
                    panel.set_title(f"{drawn(every.genes[gene])}, {name}", fontsize=8)
    figure.suptitle(
        f"{drawn(task['name'])}: log1p of counts beside what the features tell ({protocol})", fontsize=9
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _tested(values: Doubles, rows: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> bool:
    return bool(np.isfinite(values[rows]).any())


def _correlation(truth: Doubles, predicted: Doubles) -> str:
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return "-"
    return f"{np.corrcoef(truth, predicted)[0, 1]:.2f}"
