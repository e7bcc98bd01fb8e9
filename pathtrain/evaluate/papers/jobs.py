"""What a table has to measure: a model on the data of a task, each once; made, or taken from the cache.

A job that was finished before is taken if all that decides it is the same: the model's fingerprint and what
it began with, the files of its data (their names, sizes and times), its settings, and the version of this
package. So a study that was stopped goes on with the job that it was at, and one with another model measures
that model alone.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathprep import __version__
from pathprep.errors import PathprepError, UsageError, why
from pathtrain.evaluate.cache import Cache, key
from pathtrain.evaluate.papers.data_state import files
from pathtrain.evaluate.papers.kinds import KINDS, LAYER
from pathtrain.evaluate.papers.paper import Evaluation, Paper
from pathtrain.evaluate.papers.study_file import Study
from pathtrain.evaluate.units import Scored
from pathtrain.runs.model import LoadedModel

log = logging.getLogger(__name__)

# Settings of how an evaluation is run and of what stands beside the model: its figure stays the paper's
RUNNING = frozenset(
    ("baselines", "random_seeds", "batch", "threads", "device", "precision", "scratch", "seed", "any_mpp")
)


@dataclass(frozen=True)
class Job:
    """An evaluation of one model, or of all together, which gives the figures of some columns.

    Attributes:
        models: their numbers. data: its name in the paper.
        evaluation: which. settings: of it.
        columns: keys of the paper's.
        own: those of the settings that are not the paper's and may change a figure.
    """

    models: tuple[int, ...]
    data: str
    evaluation: Evaluation
    settings: dict[str, Any]
    columns: tuple[str, ...]
    own: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """A job's end.

    Attributes:
        scored: the result; None where it failed. reason: why it did.
    """

    scored: Scored | None
    reason: str = ""


def jobs(paper: Paper, study: Study, models: int, given: Mapping[str, Any]) -> list[Job]:
    """All that is to be measured, model by model.

    Settings are, the later before the earlier: the paper's, those of a column, ``given`` (of the study file
    and of the call), and of the study file's task. Of the paper's and of ``given``, an evaluation takes those
    that it has.

    Raises:
        UsageError: a setting that no evaluation of the paper has, or one of a task that its own has not.
    """
    _check(paper, given)
    known: dict[tuple[tuple[int, ...], str], Job] = {}
    for number in range(models):
        for column, words in paper.columns.items():
            data = paper.data(column)
            if data not in study.tasks:
                continue
            task = study.tasks[data].settings
            if unknown := task.keys() - KINDS[words.evaluation].settings:
                raise UsageError(f"{data}: `{min(unknown)}` is no setting of evaluate {words.evaluation}")
            published = {**_shared(words.evaluation, paper.settings), **words.settings}
            settings = {**published, **_shared(words.evaluation, given), **task}
            own = {
                name: value
                for name, value in settings.items()
                if name not in RUNNING and (name not in published or published[name] != value)
            }
            which = tuple(range(models)) if KINDS[words.evaluation].joint else (number,)
            same = which, key(data, words.evaluation, settings)
            before = known.get(same)
            columns = (column,) if before is None else tuple(dict.fromkeys((*before.columns, column)))
            known[same] = Job(which, data, words.evaluation, settings, columns, own)
    return list(known.values())


def _shared(evaluation: Evaluation, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that an evaluation has; how a linear layer is trained is of linear evaluations alone."""
    has = KINDS[evaluation].settings - (frozenset() if evaluation == "linear" else LAYER)
    return {name: value for name, value in settings.items() if name in has}


def _check(paper: Paper, settings: Mapping[str, Any]) -> None:
    kinds = {words.evaluation for words in paper.columns.values()}
    for name in settings:
        if not any(name in _shared(kind, settings) for kind in kinds):
            raise UsageError(f"`{name}`: no evaluation of this paper ({', '.join(sorted(kinds))}) has it")


def run(job: Job, models: Sequence[LoadedModel], study: Study, cache: Path | None) -> Done:
    """Do a job; what fails is told by its reason, so that the others go on.

    Args:
        models: all of the table.
        cache: folder of results and features; None: nothing is kept.

    Raises:
        OSError: a disk does not work, or is full: what is finished is in the cache.
    """
    source, own = study.tasks[job.data].source, [models[number] for number in job.models]
    title = f"{', '.join(model.name for model in own)}: {job.data} ({job.evaluation})"
    kind = KINDS[job.evaluation]
    store = None if cache is None else Cache(cache)
    try:
        who = [_who(model, kind.joint) for model in own]
        state = _state(source, (*kind.paths, *kind.named))
        same = key("job", __version__, job.evaluation, job.settings, who, state)
        before = None if store is None else store.result(same)
        if before is not None:
            log.info("%s: made before, taken from %s", title, cache)
            return Done(before)
        log.info("%s", title)
        scored = kind.run(own, source, cache, **job.settings)
        if store is not None:
            store.keep_result(same, scored)
    except PathprepError as error:
        log.error("%s: failed: %s", title, why(error))
        return Done(None, why(error))
    return Done(scored)


def _who(model: LoadedModel, named: bool) -> list[Any]:
    """What of a model decides a result: also what it began with, which is a baseline, and the MPPs that tiles
    may have. An export has a run's weights, and says neither."""
    start = None if model.start is None else [model.start.init, model.start.seed, model.start.sha256]
    return [model.fingerprint, start, model.mpps, model.name if named else ""]


def _state(source: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """What a task is given, and of its files names, sizes and times."""
    return {
        name: list(files(Path(value))) if name in paths and Path(value).exists() else value
        for name, value in sorted(source.items())
    }
