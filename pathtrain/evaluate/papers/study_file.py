"""Which data a table is made on, and of which models: a YAML file, or a folder with a folder per task.

    paper: midnight                       # or --paper
    models: {ours: runs/a, UNI2: uni2-h}  # or as arguments; a list, or names with what they stand for
    settings: {baselines: colour}         # of every evaluation that has them
    tasks:
      bach: {train: bach/train, val: bach/val}
      hest: {folder: hest-bench, settings: {protocol: pca}}

Paths count from the file's own folder. Where only tasks are to be said, they may stand alone, without
``tasks:``. A folder has <task>/train, <task>/val and <task>/test, or what the task needs under its name:
<task>/labels.csv, <task>/dataset; a task of one folder is that folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError, explain_os_error, why
from pathprep.folders import is_mixed
from pathprep.storage import regular
from pathtrain.data.whole_tiles import LABELS_FILE
from pathtrain.evaluate.papers.kinds import KINDS
from pathtrain.evaluate.papers.paper import PAPERS, Column, Paper, read
from pathtrain.recipes.text import LARGEST_TEXT, decoded, parsed

KEYS = {"paper", "models", "settings", "tasks"}
ENDINGS = ("", ".csv", ".parquet")  # of what a folder of tasks may hold for a key


@dataclass(frozen=True)
class TaskData:
    """What a task is given.

    Attributes:
        source: of its evaluation's function, paths as Path.
        settings: of this task alone.
    """

    source: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What a file says.

    Attributes:
        tasks: by the data's name in the paper, in its order.
        models: by name; empty where the file has none.
        settings: of all evaluations.
        paper: its name; None where the file does not say.
        others: tasks of other papers that the file has too.
    """

    tasks: dict[str, TaskData]
    models: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    paper: str | None = None
    others: tuple[str, ...] = ()


def find(path: Path, paper: str | None = None) -> Study:
    """What a YAML file or a folder says, of one paper.

    Args:
        paper: its name; None: that of the file, or exaonepath1.

    Raises:
        UsageError: the file is not such a YAML, names an unknown task or what is not there; or holds none.
    """
    if not path.exists():
        first = read(paper or PAPERS[0]).datas[0]
        raise UsageError(
            f"{path}: there is no such study file; `tasks` names one, or a folder of data. "
            f"A line of it, below `tasks:`, is such as {first}: {{train: FOLDER}}"
        )
    if path.is_dir():
        name = paper or PAPERS[0]
        found = Study(_of_folder(path, read(name)), paper=name)
    else:
        found = _of_file(path, paper)
    chosen = read(found.paper or PAPERS[0])
    if not found.tasks:
        raise UsageError(f"{path}: offers none of the tasks {', '.join(chosen.datas)}")
    return found


def _column(paper: Paper, data: str) -> Column:
    """The first that is measured on the data: all that are share evaluation and source."""
    return next(paper.columns[key] for key in paper.columns if paper.data(key) == data)


def _of_folder(path: Path, paper: Paper) -> dict[str, TaskData]:
    found = {}
    for data in paper.datas:
        column, root = _column(paper, data), path / data
        kind = KINDS[column.evaluation]
        if not root.is_dir():
            continue
        keys = [key for key in (*kind.needs, *kind.takes) if key in kind.paths]
        source: dict[str, Any] = {}
        for key in keys:
            place = next((root / f"{key}{end}" for end in ENDINGS if (root / f"{key}{end}").exists()), None)
            if place is not None and (key not in kind.tiles or _holds_tiles(place)):
                source[key] = place
        missing = [key for key in kind.needs if key not in source]
        if len(missing) == 1 and missing[0] in kind.paths:
            (key,) = missing
            if _holds_tiles(root) if key in kind.tiles else any(root.iterdir()):
                source, missing = {key: root}, []  # what else lies there is the data's own
        if not missing:
            found[data] = TaskData({**column.source, **source})
    return found


def _of_file(path: Path, paper: str | None) -> Study:
    try:
        values = parsed(decoded(regular.read(path, LARGEST_TEXT)))
    except OSError as error:
        raise UsageError(explain_os_error(error, reading=True)) from None
    except ValueError as error:
        words = str(error).removeprefix("not YAML: ")
        raise UsageError(f"{path}: cannot be read as YAML ({words})") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected tasks with train and perhaps test, such as pcam: {{train: pcam}}")
    whole = values if "tasks" in values else {"tasks": values}
    if unknown := [str(key) for key in whole if key not in KEYS]:
        raise UsageError(f"{path}: {unknown[0]} is none of {', '.join(sorted(KEYS))}")
    for key in ("tasks", "settings"):
        if not isinstance(whole.get(key, {}), dict):
            raise UsageError(f"{path}: {key} must be names with values")
    name = paper or whole.get("paper") or PAPERS[0]
    chosen = read(str(name))
    everywhere = {data for each in PAPERS for data in read(each).datas}
    tasks, others = {}, []
    for key, entry in whole["tasks"].items():
        if key in chosen.datas:
            tasks[key] = _task(path, str(key), entry, _column(chosen, key))
        elif key in everywhere:
            others.append(str(key))
        else:
            raise UsageError(f"{path}: task {key} is not one of {', '.join(chosen.datas)}")
    return Study(
        {data: tasks[data] for data in chosen.datas if data in tasks},
        _models(path, whole.get("models")),
        dict(whole.get("settings", {})),
        str(name),
        tuple(others),
    )


def _task(path: Path, key: str, entry: Any, column: Column) -> TaskData:
    kind = KINDS[column.evaluation]
    allowed = {*kind.needs, *kind.takes, "settings"}
    needs = " and ".join(kind.needs)
    if not isinstance(entry, dict) or any(entry.get(need) is None for need in kind.needs):
        raise UsageError(f"{path}: {key} needs {needs}")
    if extra := [str(name) for name in entry if name not in allowed]:
        may = ", ".join((*kind.takes, "settings"))
        raise UsageError(f"{path}: {key} needs {needs}, perhaps {may}, and nothing else, such as {extra[0]}")
    settings = entry.get("settings") or {}
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: {key}: settings must be names with values")
    source: dict[str, Any] = dict(column.source)
    for name, value in entry.items():
        if name == "settings" or value is None:
            continue
        beside = path.parent / str(value)
        # a name of what comes with the package, or a file, as its evaluation takes them
        is_file = name in kind.paths or (name in kind.named and beside.is_file())
        source[name] = beside if is_file else value
        if name in kind.paths:
            _check(path, key, source[name], name in kind.tiles)
    return TaskData(source, settings)


def _check(path: Path, key: str, place: Path, tiles: bool) -> None:
    try:
        there = _holds_tiles(place) if tiles else place.exists()
    except (OSError, UsageError) as error:
        raise UsageError(f"{path}: {key}: {place}: {why(error)}") from None
    if not there:
        wanted = f"neither a dataset nor images with a {LABELS_FILE}" if tiles else "not there"
        raise UsageError(f"{path}: {key}: {place} is {wanted}")


def _models(path: Path, given: Any) -> dict[str, str]:
    """By name: a list of them, or names with what they stand for; folders count from the file's own."""
    if given is None:
        return {}
    if isinstance(given, list):
        twice = next((each for each in given if given.count(each) > 1), None)
        if twice is not None:
            raise UsageError(f"{path}: models has {twice} twice; give each once, or names of your own")
        given = {str(each): each for each in given}
    if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
        raise UsageError(f"{path}: models must be a list, or names with what they stand for")
    beside = {str(name): path.parent / value for name, value in given.items()}
    return {name: str(place) if place.exists() else given[name] for name, place in beside.items()}


def _holds_tiles(path: Path) -> bool:
    """Also mixed shards, for which ``linear`` says what to give instead."""
    return (path / "dataset.json").is_file() or (path / LABELS_FILE).is_file() or is_mixed(path)
