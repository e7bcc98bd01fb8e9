"""Slide-level results as one HTML page that needs nothing else: tables, charts, attention."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pathprep.page.environment import data_uri, render
from pathtrain.evaluate.slide_level.figures import Heatmap, figures_of
from pathtrain.evaluate.slide_level.task_figures import WORDS
from pathtrain.params.tasks import FIGURES, TOLD


def page(
    result: dict[str, Any],
    charts: dict[str, bytes],
    heatmaps: Sequence[Heatmap],
    pictures: dict[str, bytes] | None = None,
) -> str:
    """The page.

    Args:
        result: of pathtrain.evaluate.slide_level.benchmark.
        charts: PNGs by name, ``bars`` and maybe ``radar``.
        heatmaps: in the order of the page; none is said.
        pictures: PNGs by the name of the task; see task_figures.
    """
    tasks = result["tasks"]
    rows = list(dict.fromkeys((row["model"], row["method"]) for task in tasks for row in task["results"]))
    overview, figures = [], figures_of(result)
    for model, method in rows:
        found = [
            next((r for r in task["results"] if (r["model"], r["method"]) == (model, method)), None)
            for task in tasks
        ]
        firsts = [row and row[task["figure"]]["mean"] for task, row in zip(tasks, found, strict=True)]
        values = [value for value in firsts if value is not None]
        overview.append(
            {
                "model": model,
                "method": method,
                "values": firsts,
                "mean": sum(values) / len(values) if len(figures) == 1 else None,
            }
        )
    # For each task the best of the table, to be set in bold
    best = [
        max((row["values"][n] for row in overview if row["values"][n] is not None), default=None)
        for n in range(len(tasks))
    ]
    # One block per task and slide, each method beside the plain slide
    groups: dict[tuple[str, str, str], list[Heatmap]] = {}
    for one in heatmaps:
        groups.setdefault((one.attention.task, one.attention.slide, one.attention.label), []).append(one)
    return render(
        Path(__file__).with_suffix(".html"),
        result=result,
        tasks=tasks,
        overview=overview,
        best=best,
        figures=figures,
        names=FIGURES,
        told=TOLD,
        pictures={name: data_uri("image/png", data) for name, data in (pictures or {}).items()},
        words=WORDS,
        charts={name: data_uri("image/png", data) for name, data in charts.items()},
        groups=[(*key, own) for key, own in groups.items()],
    )
