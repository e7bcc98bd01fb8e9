"""A paper's table: models measured on the data that is there, beside the published rows.

    pathtrain evaluate table MODEL... --paper midnight --tasks study.yaml --cache cache --out table

Which data there is: pathtrain.evaluate.papers.study_file. Tasks that are not there are missing from the
table; the mean is over those that are, of published rows as well. An evaluation that fails is named with its
reason, and the others go on. Under torchrun, processes share the evaluations, which they give each other by
the cache.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathtrain.distributed.workers import Place
from pathtrain.evaluate.papers import drawn, jobs, written
from pathtrain.evaluate.papers.jobs import Done, Job
from pathtrain.evaluate.papers.paper import PAPERS, Paper, read
from pathtrain.evaluate.papers.study_file import Study, find
from pathtrain.evaluate.statistics import describe
from pathtrain.evaluate.subject import called
from pathtrain.evaluate.units import Scored, compared
from pathtrain.params.encoding import KeptHow
from pathtrain.runs.finishing import aimed
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.runs.opening import opened

log = logging.getLogger(__name__)


def table(
    models: Sequence[Model] | Mapping[str, Model] = (),
    tasks: str | Path = "tasks.yaml",
    *,
    paper: str | None = None,
    out: str | Path | None = None,
    figure: str | Path | None = None,
    cache: str | Path | None = None,
    target: str = "model",
    seed: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measure models on a paper's tasks, those that are there.

    Args:
        models: encoders, or what ``pathtrain.load`` takes; by name, where they are called otherwise. None:
            those that the study file names.
        tasks: a YAML file or a folder; see pathtrain.evaluate.papers.study_file.
        paper: exaonepath1, exaonepath2, midnight or robustness; None: that of the file, or exaonepath1.
        out: folder for the table as Markdown, CSV, LaTeX and JSON, and its figures; None: none is written.
        figure: a PNG of the mean against parameters and training slides.
        cache: folder of features and results, from which a second call goes on; None: that of the file's
            settings, which counts from the file's folder, or none.
        target: as of ``linear``.
        seed: of the intervals of differences between models, and of every evaluation; None: that of the
            file's settings, or 0.
        settings: of the evaluations, by their flat names: ``baselines="colour", device="cuda"``.

    Returns:
        JSON-able: the paper, its columns, those present and missing, per model its rows (figures,
        intervals, leads and their mean), parameters and slides, what failed, and each evaluation in full;
        differences of models, paired; and the published rows.

    Raises:
        UsageError: no such paper or tasks, a setting that none of them has, no model, or models of one name.
        ModelError, CheckpointError, DatasetError, StainError: a model or target cannot be read.
        PeerError: another process stopped.
    """
    study = find(Path(tasks), paper)
    name = study.paper or PAPERS[0]
    chosen = read(name)
    for other in study.others:
        log.info("%s: of another paper than %s, left alone", other, name)
    place = Place.of_environment()
    of_file = study.settings.pop("cache", None)
    if cache is None and of_file is not None:
        cache = Path(tasks).parent / str(of_file)
    if place.world > 1 and cache is None:
        raise UsageError("`cache`: several processes need a folder that they share")
    seed = study.settings.get("seed", 0) if seed is None else seed
    given = {**study.settings, **settings, "seed": seed}
    weights = str(given.pop("weights", KeptHow.weights))
    wanted = _named(models, study)
    todo = jobs.jobs(chosen, study, len(wanted), given)
    loaded = [_opened(*each, weights, target) for each in wanted]
    _check_names(loaded)
    kept = None if cache is None else Path(cache)
    mine = {
        number: jobs.run(job, loaded, study, kept)
        for number, job in enumerate(todo)
        if number % place.world == place.rank
    }
    if place.world > 1:
        failed = [{n: done.reason for n, done in mine.items() if done.scored is None}]
        for reasons in place.gather(failed[0]):
            mine |= {number: Done(None, reason) for number, reason in reasons.items()}
        if place.rank == 0:  # what others made lies in the cache
            for number, job in enumerate(todo):
                if number not in mine:
                    mine[number] = jobs.run(job, loaded, study, kept)
        place.leave()
        if place.rank:
            return {"task": "table", "rank": place.rank}
    result = assembled(name, study, loaded, [(job, mine[number]) for number, job in enumerate(todo)], seed)
    if out is not None:
        written.write(Path(out), result)
    if figure is not None:
        drawn.write(Path(figure), drawn.scatter(result))
    return result


def _named(models: Sequence[Model] | Mapping[str, Model], study: Study) -> list[tuple[str | None, Model]]:
    """Models, with the name that the table calls them by, if that is not their own."""
    found: list[tuple[str | None, Model]]
    found = list(models.items()) if isinstance(models, Mapping) else [called(model) for model in models]
    found = found or [(None if name == model else name, model) for name, model in study.models.items()]
    if not found:
        raise UsageError("`models`: give one at least, as an argument or in the file of tasks")
    return found


def _opened(name: str | None, model: Model, weights: str, target: str) -> LoadedModel:
    found = aimed(opened(model, weights), target)
    return found if name is None else replace(found, name=name)


def _check_names(models: Sequence[LoadedModel]) -> None:
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two models are called {twice}; name them otherwise, as in first={twice} or in a study file"
        )


def assembled(
    paper: str, study: Study, models: Sequence[LoadedModel], ended: Sequence[tuple[Job, Done]], seed: int
) -> dict[str, Any]:
    """The result of ``table``: what the jobs came to."""
    words = read(paper)
    asked = [column for column in words.columns if words.data(column) in study.tasks]
    entries = []
    for number, model in enumerate(models):
        own = [each for each in ended if number in each[0].models]
        entries.append(_entry(words, model, own))
    present = [key for key in asked if any(key in row["figures"] for each in entries for row in each["rows"])]
    for entry in entries:
        for row in entry["rows"]:
            row["mean"] = _mean(row["figures"], present)
    return {
        "task": f"table {paper}",
        "paper": {"name": paper, **words.model_dump(include={"title", "sources", "figure", "notes"})},
        "columns": [
            {"key": key, **each.model_dump(exclude={"settings"})} for key, each in words.columns.items()
        ],
        "present": present,
        "missing": [key for key in words.columns if key not in present],
        "own_settings": {column: job.own for job, _ in ended for column in job.columns if job.own},
        "models": entries,
        "differences": _differences(words, models, ended, seed),
        "published": [
            {
                **row.model_dump(include={"name", "slides", "own"}),
                "figures": words.published(row),
                "mean": _mean(words.published(row), present),
                "mean_of_all": _mean(words.published(row), list(words.columns)),
                "parameters": row.parameters,
            }
            for row in words.rows
        ],
    }


def _mean(figures: Mapping[str, float], keys: Sequence[str]) -> float | None:
    """Over some columns; None where one of them is missing: means of other columns cannot be compared."""
    found = [figures.get(key) for key in keys]
    return (
        None
        if None in found or not found
        else float(np.mean([value for value in found if value is not None]))
    )


def _entry(paper: Paper, model: LoadedModel, ended: Sequence[tuple[Job, Done]]) -> dict[str, Any]:
    """What a table says of a model: its rows, the model's own first, and the results that they are of."""
    rows: dict[str, dict[str, Any]] = {}
    failed, baselines = dict[str, str](), dict[str, Any]()
    for job, done in ended:
        if done.scored is None:
            failed |= dict.fromkeys(job.columns, done.reason)
            continue
        result = _own(done.scored, model)
        for name, words in result.get("baselines", {}).items():
            baselines[f"{name} of {job.evaluation}" if "is" in words else name] = words
        for found in result["results"]:
            row = rows.setdefault(
                found["name"], {"name": found["name"], "figures": {}, "intervals": {}, "leads": {}}
            )
            for column in job.columns:
                _fill(row, column, paper.columns[column].figure, found)
    return {
        "model": describe(model),
        "parameters": sum(weights.numel() for weights in model.module.parameters()),
        "slides": model.slides,
        "rows": list(rows.values()),
        "failed": failed,
        "baselines": baselines,
        "evaluations": {job.columns[0]: done.scored.result for job, done in ended if done.scored is not None},
    }


def _own(scored: Scored, model: LoadedModel) -> dict[str, Any]:
    """The part of a joint evaluation that is of a model."""
    found: dict[str, Any] = scored.result
    return found["of_models"][model.name] if "of_models" in found else found


def _fill(row: dict[str, Any], column: str, figure: str, found: Mapping[str, Any]) -> None:
    value = found.get(figure)
    if value is None:  # not defined for these features, or on this data
        return
    row["figures"][column] = value
    row["intervals"][column] = found.get(f"{figure}_interval")
    lead = found.get("lead") or {}
    if lead.get(figure) is not None:
        row["leads"][column] = {"lead": lead[figure], "interval": lead.get(f"{figure}_interval")}


def _told(column: str, figure: str, told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Differences that an evaluation of all models together tells by itself."""
    return [
        {
            "column": column,
            "first": each["first"],
            "second": each["second"],
            "difference": each[figure],
            "interval": each[f"{figure}_interval"],
            "p_holm": each["p_holm"],
            "test": each["test"],
        }
        for each in told
        if figure in each
    ]


def _differences(
    paper: Paper, models: Sequence[LoadedModel], ended: Sequence[tuple[Job, Done]], seed: int
) -> list[dict[str, Any]]:
    """Every model less each later one, column by column, over the same groups; where a figure has no groups
    that could be drawn, without an interval.
    """
    found = []
    for column, words in paper.columns.items():
        whole = [
            (job, done.scored) for job, done in ended if column in job.columns and done.scored is not None
        ]
        for _, scored in whole:
            found += _told(column, words.figure, scored.result.get("differences", []))
        made = {job.models[0]: scored for job, scored in whole if "of_models" not in scored.result}
        for one, two in combinations(sorted(made), 2):
            values = [made[number].result["results"][0].get(words.figure) for number in (one, two)]
            if None in values:
                continue
            units = [made[number].units.get(("model", words.figure)) for number in (one, two)]
            interval = None
            if units[0] is not None and units[1] is not None and units[0].groups == units[1].groups:
                both = compared({"one": units[0], "two": units[1]}, "figure", seed, (-1.0, 1.0))
                interval = both["two"]["lead"]["figure_interval"]
            found.append(
                {
                    "column": column,
                    "first": models[one].name,
                    "second": models[two].name,
                    "difference": values[0] - values[1],
                    "interval": interval,
                }
            )
    return found
