"""Table 1 and figure 1 of the EXAONEPath 1.0 paper: its six tile tasks, for any models.

    tasks.yaml    pcam: {train: pcam/train, test: pcam/test}     # paths from the file's own folder
                  mhist: {train: mhist}                          # without test: 80:20 by group
    or a folder   <task>/train and <task>/test, or <task> alone; each a dataset or images with a labels.csv

Training parts are divided as in the paper: 80 % are learnt from, all of PCam's, which has a validation part
beside it. The task names are those of pathtrain.evaluate.papers.published. Tasks that are not there are
missing from the table; the mean is over those that are, of the published row as well.
"""

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pathprep.errors import UsageError, explain_os_error, why
from pathprep.folders import is_mixed
from pathprep.params.settings import build
from pathprep.storage import atomic, regular
from pathprep.words import counted
from pathtrain.data.whole_tiles import LABELS_FILE
from pathtrain.evaluate.figure_text import drawn
from pathtrain.evaluate.papers.published import EXAONEPATH, TASKS
from pathtrain.evaluate.statistics import describe
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level.linear import linear
from pathtrain.params.evaluation import LinearParams
from pathtrain.recipes.text import LARGEST_TEXT, decoded, parsed
from pathtrain.runs.finishing import aimed
from pathtrain.runs.model import LoadedModel, Model

log = logging.getLogger(__name__)

KEYS = [task.key for task in TASKS]
OWN_VALIDATION = [task.key for task in TASKS if task.own_validation]


@dataclass(frozen=True)
class TaskPaths:
    """Where a task's tiles are; ``test`` None for a split of ``train``."""

    train: Path
    test: Path | None


def find(path: Path) -> dict[str, TaskPaths]:
    """The tasks that a YAML file or a folder offers, in the order of the table.

    Raises:
        UsageError: the file is not such a YAML, names an unknown task or what is not there; or holds none.
    """
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if not found:
        raise UsageError(f"{path}: offers none of the tasks {', '.join(KEYS)}")
    return {key: found[key] for key in KEYS if key in found}


def _of_folder(path: Path) -> dict[str, TaskPaths]:
    found = {}
    for key in KEYS:
        train, test = path / key / "train", path / key / "test"
        if _holds_tiles(train):
            found[key] = TaskPaths(train, test if _holds_tiles(test) else None)
        elif _holds_tiles(path / key):
            found[key] = TaskPaths(path / key, None)
    return found


def _of_file(path: Path) -> dict[str, TaskPaths]:
    try:
        values = parsed(decoded(regular.read(path, LARGEST_TEXT)))
    except OSError as error:
        raise UsageError(explain_os_error(error, reading=True)) from None
    except ValueError as error:
        words = str(error).removeprefix("not YAML: ")
        raise UsageError(f"{path}: cannot be read as YAML ({words})") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected tasks with train and perhaps test, such as pcam: {{train: pcam}}")
    found = {}
    for key, entry in values.items():
        if key not in KEYS:
            raise UsageError(f"{path}: task {key} is not one of {', '.join(KEYS)}")
        if not isinstance(entry, dict) or entry.get("train") is None or not entry.keys() <= {"train", "test"}:
            raise UsageError(f"{path}: {key} needs train, perhaps test, and nothing else")
        places = {side: path.parent / str(place) for side, place in entry.items() if place is not None}
        for place in places.values():
            try:
                there = _holds_tiles(place)
            except (OSError, UsageError) as error:
                raise UsageError(f"{path}: {key}: {place}: {why(error)}") from None
            if not there:
                raise UsageError(
                    f"{path}: {key}: {place} is neither a dataset nor images with a {LABELS_FILE}"
                )
        found[key] = TaskPaths(places["train"], places.get("test"))
    return found


def _holds_tiles(path: Path) -> bool:
    """Also mixed shards, for which ``linear`` says what to give instead."""
    return (path / "dataset.json").is_file() or (path / LABELS_FILE).is_file() or is_mixed(path)


def table(
    models: Sequence[Model],
    tasks: str | Path = "tasks.yaml",
    *,
    figure: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Linear evaluation of every model on every task that is there.

    Args:
        models: encoders, or their run or exported folders.
        tasks: a YAML file or a folder; see the module's text.
        figure: a PNG of mean top-1 against parameters and training slides; None: none is drawn.
        settings: of LinearParams, by their flat names, as ``linear`` takes them.

    Returns:
        JSON-able: tasks present and missing, per model its rows (top-1 per task, mean, parameters, slides;
        of baselines also the model's lead over them), the published row, and each linear evaluation in full.

    Raises:
        PathprepError: as ``linear``.
        UsageError: no such tasks.
    """
    sources, params = find(Path(tasks)), build(LinearParams, settings)
    loaded = [aimed(vectors_of(model, params.how), params.target) for model in models]
    result = _table(loaded, sources, {**settings, "target": "model"}) | {"whole": params.whole}
    if figure is not None:
        Path(figure).parent.mkdir(parents=True, exist_ok=True)
        atomic.write_alone(Path(figure), draw(result))
    return result


def _table(
    models: Sequence[LoadedModel], sources: Mapping[str, TaskPaths], settings: dict[str, Any]
) -> dict[str, Any]:
    present = list(sources)
    entries = []
    for model in models:
        done: dict[str, Any] = {}
        for key, source in sources.items():
            log.info("%s: %s", model.name, key)
            whole = settings.get("whole", False) or (key in OWN_VALIDATION and source.test is not None)
            done[key] = linear(model, source.train, source.test, **{**settings, "whole": whole})
        entries.append(
            {
                "model": describe(model),
                "parameters": sum(weights.numel() for weights in model.module.parameters()),
                "slides": model.slides,
                "rows": [_row(row["name"], done) for row in next(iter(done.values()))["results"]],
                "baselines": next(iter(done.values()))["baselines"],
                "evaluations": done,
            }
        )
    return {
        "task": "table",
        "present": present,
        "missing": [key for key in KEYS if key not in sources],
        "models": entries,
        "published": [
            {
                "name": EXAONEPATH.name,
                "top1": EXAONEPATH.top1,
                "mean": EXAONEPATH.mean(present),
                "mean_of_all": EXAONEPATH.mean(KEYS),
                "parameters": EXAONEPATH.parameters,
                "slides": EXAONEPATH.slides,
            }
        ],
    }


def _row(name: str, done: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: next(row for row in one["results"] if row["name"] == name) for key, one in done.items()}
    return {
        "name": name,
        "top1": {key: row["accuracy"] for key, row in found.items()},
        "intervals": {key: row["accuracy_interval"] for key, row in found.items()},
        "leads": {key: row["lead"] for key, row in found.items()},
        "mean": float(np.mean([row["accuracy"] for row in found.values()])),
    }


def draw(result: dict[str, Any]) -> bytes:
    """PNG of mean top-1 against parameters and against training slides, as figure 1 of the paper."""
    shown = Figure(figsize=(10, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(shown)
    points = [
        (entry["model"]["name"], entry["rows"][0]["mean"], entry["parameters"], entry["slides"], False)
        for entry in result["models"]
    ]
    points += [
        (f"{row['name']} (published)", row["mean"], row["parameters"], row["slides"], True)
        for row in result["published"]
    ]
    axes = shown.subplots(1, 2, sharey=True)
    for place, (at, words) in zip(axes, ((2, "parameters"), (3, "training slides")), strict=True):
        for number, point in enumerate(points):
            if point[at] is None:
                continue
            marker, area = ("*", 130) if point[4] else ("o", 50)
            place.scatter(point[at], point[1], color=f"C{number}", marker=marker, s=area)
            place.annotate(
                drawn(point[0]),
                (point[at], point[1]),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        place.set(xscale="log", xlabel=words)
        place.margins(0.35, 0.25)
        place.grid(alpha=0.3)
    axes[0].set_ylabel(f"mean top-1 of {counted(len(result['present']), 'task')}")
    unknown = [drawn(point[0]) for point in points if point[3] is None]
    if unknown:
        axes[1].set_title(f"not known for: {', '.join(unknown)}", fontsize=8)
    buffer = io.BytesIO()
    shown.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
