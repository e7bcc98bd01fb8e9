"""Several runs on one HTML page that needs nothing else: curves, last and best figures, what differs.

Made from the runs' own files alone. Whatever keys their logs have are drawn, so runs of different methods
and versions can stand beside each other; what makes figures of two runs unlike is said in words.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pathprep.errors import UsageError
from pathprep.page import chart
from pathprep.page.environment import render, write
from pathprep.storage.place import local_folder
from pathprep.words import command, counted
from pathtrain.errors import NoModelError
from pathtrain.recipes.names_only import short_all, without_paths
from pathtrain.recipes.probes import CollapseProbe, RankProbe
from pathtrain.recipes.recipe import Recipe
from pathtrain.reports import curves
from pathtrain.runs import checkpoint
from pathtrain.runs.described import SHA_KEY, STEP_KEY, info_of, recipe_of
from pathtrain.runs.identity import VERSION_KEY, flat
from pathtrain.training import row_keys

GOLDEN_ANGLE = 137.508  # degrees between neighbouring hues: far apart for any number of runs
FIRST_HUE = 285.0
SHOWN = 160  # characters of a value on the page; the JSON has all of it


@dataclass(frozen=True)
class Run:
    """One of the runs.

    Attributes:
        name: what tells it from the others: the end of its path.
        info: run.json, or {} if it is not there yet.
        rows: of the log. damaged: lines of it that are none.
        step, total: finished steps, and those of the whole run, if they are known.
    """

    name: str
    path: Path
    recipe: Recipe
    info: dict[str, Any]
    rows: list[dict[str, Any]]
    damaged: int
    step: int
    total: int | None

    @property
    def state(self) -> str:
        """How far it is, in words."""
        if self.total is None:
            return counted(self.step, "step")
        end = "finished" if self.step >= self.total else "unfinished"
        return f"{self.step:,} of {counted(self.total, 'step')}, {end}"


def compare(runs: Sequence[str | Path], out: str | Path = "compare.html") -> dict[str, Any]:
    """Write the page.

    Args:
        runs: two run folders or more; unfinished ones too.
        out: the page.

    Returns:
        JSON-able: ``page``; ``runs``, in their order, with what their names stand for; ``figures``: by key,
        then run, the ``last`` and, where more or less is better, the ``best`` value with their steps;
        ``recipe`` and ``data``: by key, then run, the values of keys that differ; and ``notes`` in words.

    Raises:
        ModelError: one is not a run folder.
        RecipeError: its recipe cannot be read.
        UsageError: fewer than two, one of them twice, or the page cannot be written.
    """
    found = _open([Path(run) for run in runs])
    recipes = _differences({run.name: flat(run.recipe.model_dump(mode="json")) for run in found})
    data = _differences({run.name: _data(run) for run in found})
    figures = _figures(found)
    notes = _notes(found, recipes, data)
    page = local_folder(out)
    styles = [chart.style(FIRST_HUE + number * GOLDEN_ANGLE, number) for number in range(len(found))]
    text = render(
        Path(__file__).with_suffix(".html"),
        runs=list(zip(found, styles, strict=True)),
        notes=notes,
        curves=_curves(found, styles),
        figures=[(curves.title(key), _rows(key, each)) for key, each in figures.items()],
        differences=[
            ("Recipes", "key", _shown(recipes, found)),
            ("Data and machine", "", _shown(data, found)),
        ],
    )
    write(text, page)
    return {
        "page": str(page),
        "runs": [
            {
                "name": run.name,
                "path": str(run.path),
                "method": run.recipe.method,
                "steps": run.step,
                "total": run.total,
                "dataset": run.info.get("dataset"),
                "damaged_rows": run.damaged,
            }
            for run in found
        ],
        "figures": figures,
        "recipe": recipes,
        "data": data,
        "notes": notes,
    }


def _open(paths: list[Path]) -> list[Run]:
    if len(paths) < 2:
        raise UsageError(
            f"{counted(len(paths), 'run')}: give 2 or more; `pathtrain report RUN` makes the page of one"
        )
    places = [path.resolve() for path in paths]
    for place in places:
        if places.count(place) > 1:
            raise UsageError(f"{place}: given twice; leave one out")
    return [_read(path, name) for path, name in zip(paths, _names(places), strict=True)]


def _names(places: list[Path]) -> list[str]:
    """Of each path its last part, or as many as no other path ends with."""

    def end(place: Path, parts: int) -> str:
        return "/".join(place.parts[-parts:])

    names = []
    for place in places:
        parts = 1
        while [end(other, parts) for other in places].count(end(place, parts)) > 1:
            parts += 1
        names.append(end(place, parts))
    return names


def _read(path: Path, name: str) -> Run:
    if not (path / "recipe.yaml").is_file():
        raise NoModelError(
            f"{path}: not a run (no recipe.yaml); train one with {command('pathtrain pretrain --out', path)}"
        )
    recipe, info = without_paths(recipe_of(path)), info_of(path)
    rows, damaged = curves.read(path)
    saved = checkpoint.entries(path)
    step = int(rows[-1]["step"]) if rows else 0
    step = max(step, saved[-1].step if saved else 0)
    tiles = info.get("identity", {}).get("dataset tiles")
    total = recipe.steps if tiles is None else recipe.total_steps(tiles)
    return Run(name, path, recipe, info, rows, damaged, step, total)


def _data(run: Run) -> dict[str, Any]:
    """What run.json says beside the recipe."""
    identity: dict[str, Any] = run.info.get("identity", {})
    own = {
        key: value
        for key, value in identity.items()
        if key in (STEP_KEY, SHA_KEY) or key.partition(".")[0] not in type(run.recipe).model_fields
    }
    rest = {key: run.info[key] for key in ("dataset", "slides", "normalised") if key in run.info}
    if "dataset" in rest:  # pages are passed on: no path of the machine
        rest["dataset"] = short_all(rest["dataset"])
    return {**rest, **own, **run.info.get("versions", {})}


def _differences(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key -> run -> value, where the runs do not agree; a run without the key is left out."""
    keys = dict.fromkeys(key for each in values.values() for key in each)
    found = {key: {name: each[key] for name, each in values.items() if key in each} for key in keys}
    return {
        key: each
        for key, each in found.items()
        if len(each) < len(values) or len({json.dumps(value, sort_keys=True) for value in each.values()}) > 1
    }


def _keys(runs: list[Run]) -> set[str]:
    """Of all figures that any of the runs has logged."""
    return {key for run in runs for row in run.rows for key in row} - row_keys.PLACE.keys()


def _figures(runs: list[Run]) -> dict[str, dict[str, dict[str, float]]]:
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for key in curves.ordered(_keys(runs)):
        for run in runs:
            steps, values = curves.points(run.rows, key)
            if not steps:
                continue
            entry = figures.setdefault(key, {}).setdefault(run.name, {})
            entry |= {"last": values[-1], "last_step": steps[-1]}
            if (better := curves.better(key)) is not None:
                best = values.index(better(values))
                entry |= {"best": values[best], "best_step": steps[best]}
    return figures


def _rows(key: str, figures: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """The lines of a figure's table; that of the best run is marked."""
    better = curves.better(key)
    best = None if better is None or len(figures) < 2 else better(each["best"] for each in figures.values())
    return [
        {
            "name": name,
            "last": chart.short(each["last"]),
            "last_step": int(each["last_step"]),
            "best": chart.short(each["best"]) if "best" in each else None,
            "best_step": int(each.get("best_step", 0)),
            "main": best is not None and each["best"] == best,
        }
        for name, each in figures.items()
    ]


def _curves(runs: list[Run], styles: list[str]) -> list[tuple[str, Markup]]:
    drawn = []
    for key in curves.charted(_keys(runs)):
        found = [(run, style, curves.points(run.rows, key)) for run, style in zip(runs, styles, strict=True)]
        lines = [chart.Curve(*points, run.name, style) for run, style, points in found if points[0]]
        if lines:
            title = curves.title(key)
            levels = dict.fromkeys(level for run in runs for level in curves.levels(run.rows, key))
            drawn.append((title, chart.lines(lines, title, list(levels))))
    return drawn


def _shown(differences: dict[str, dict[str, Any]], runs: list[Run]) -> list[tuple[str, list[str]]]:
    return [(key, [_value(each, run.name) for run in runs]) for key, each in differences.items()]


def _value(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return "-"
    value = values[name]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _notes(runs: list[Run], recipes: dict[str, Any], data: dict[str, Any]) -> list[str]:
    """What a reader must know before two figures are held against each other."""
    notes = []
    for run in runs:
        if not run.rows:
            notes.append(f"{run.name}: nothing was logged yet.")
        if run.damaged:
            lines = "line" if run.damaged == 1 else "lines"
            notes.append(f"{run.name}: {run.damaged} {lines} of log.jsonl damaged, left out.")
        if not run.info:
            notes.append(f"{run.name}: no run.json, so its data are not known.")
    if methods := recipes.get("method"):
        notes.append(
            f"The methods differ ({', '.join(dict.fromkeys(methods.values()))}): so do their losses."
        )
    outputs = [key for key in ("dino.head.out_dim", "dino.student_temp") if key in recipes]
    if outputs and not methods:
        notes.append(f"{' and '.join(outputs)} differ: losses are not of one scale.")
    if any(key in data for key in ("dataset build id", "dataset slides", "held-out slides")):
        notes.append("They are trained on different tiles.")
    if VERSION_KEY in data:
        notes.append("They were trained by versions of pathtrain whose steps differ (see CHANGELOG).")
    alone = [run.name for run in runs if any(row["step"] and "steps" not in row for row in run.rows)]
    if alone and any("steps" in row for run in runs for row in run.rows):
        notes.append(
            f"{', '.join(alone)}: rows of the log are of their last step, in the others means of their steps."
        )
    return notes + _unlike(runs)


def _unlike(runs: list[Run]) -> list[str]:
    """Of probes that several runs have: whether they were measured on the same tiles."""
    found: dict[str, list[tuple[Any, int]]] = {}
    for run in runs:
        for probe in run.recipe.probes:
            on_own = isinstance(probe, CollapseProbe | RankProbe) and probe.dataset is None
            what = probe.model_dump(exclude={"every"}), run.info.get("dataset") if on_own else None
            found.setdefault(probe.key, []).append((what, run.recipe.seed))
    notes = []
    for key, each in found.items():
        (what, seed), *others = each
        if any(other != what for other, _ in others):
            notes.append(f"The probe {key} is not the same in all: its figures are of different tiles.")
        elif any(other != seed for _, other in others):
            notes.append(f"The probe {key} draws its tiles by the seed, which differs, if the set has more.")
    return notes
