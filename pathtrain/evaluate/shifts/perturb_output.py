"""What `evaluate perturbation --out` writes: a table and a figure of lines over strength."""

import csv
import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pathprep.storage import atomic
from pathtrain.evaluate.figure_text import drawn

KEYS = ("moved", "retrieval", "cosine", "changed", "fall")
SHOWN = {"moved": "moved (1: as far as another tile)", "changed": "predictions changed"}
STYLES = {"model": "C0-o", "start": "C2--s", "random": "C7--^", "colour": "C1:v", "colour+LBP": "C3:d"}


def write(out: Path, result: dict[str, Any]) -> list[Path]:
    """Write perturbation.csv and perturbation.png.

    Raises:
        OSError: they cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    table, figure = out / "perturbation.csv", out / "perturbation.png"
    atomic.write_bytes(table, as_csv(result).encode())
    atomic.write_bytes(figure, picture(result))
    return [table, figure]


def as_csv(result: dict[str, Any]) -> str:
    """A row per perturbation and kind of features, figures with intervals; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [key for key in KEYS if key in result["results"][0]]
    ends = [f"{key}{ending}" for key in keys for ending in ("", "_low", "_high")]
    writer.writerow(["kind", "strength", "unit", "features", *ends])
    for each in result["perturbations"]:
        for row in each["results"]:
            cells = [
                "" if value is None else f"{value:.6g}"
                for key in keys
                for value in (row[key], *(row[f"{key}_interval"] or (None, None)))
            ]
            writer.writerow([each["kind"], f"{each['strength']:g}", each["unit"], row["name"], *cells])
    return text.getvalue()


def picture(result: dict[str, Any]) -> bytes:
    """PNG: a panel per kind, a line per kind of features; of predictions too, where there are labels."""
    kinds = list(dict.fromkeys(each["kind"] for each in result["perturbations"]))
    keys = [key for key in SHOWN if key in result["results"][0]]
    figure = Figure(figsize=(2.3 * len(kinds) + 0.8, 2.4 * len(keys) + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(keys), len(kinds), squeeze=False, sharey="row")
    for at, key in enumerate(keys):
        for place, kind in enumerate(kinds):
            panel = axes[at, place]
            entries = [each for each in result["perturbations"] if each["kind"] == kind]
            ticks = range(len(entries))
            for number, row in enumerate(entries[0]["results"]):
                values = [each["results"][number][key] for each in entries]
                if None in values:
                    continue
                name = row["name"]
                panel.plot(ticks, values, STYLES.get(name, "k-"), ms=3, lw=1, label=name)
                bands = [each["results"][number][f"{key}_interval"] for each in entries]
                if name == "model" and None not in bands:
                    panel.fill_between(ticks, *zip(*bands, strict=True), alpha=0.2, lw=0)
            panel.set_xticks(list(ticks), [f"{each['strength']:g}" for each in entries], fontsize=7)
            panel.tick_params(axis="y", labelsize=7)
            if at == 0:
                panel.set_title(kind, fontsize=9)
            panel.set_xlabel(entries[0]["unit"], fontsize=6)
        axes[at, 0].set_ylim(bottom=0)  # of the whole row, now that all of it is drawn
        axes[at, 0].set_ylabel(SHOWN[key], fontsize=7)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(names) or 1, fontsize=7, frameon=False
    )
    figure.suptitle(f"{drawn(result['model']['name'])}: {result['tiles']} tiles, perturbed", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
