"""The evaluations that a run's page shows: those in RUN/evaluation, and files that are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError, explain_os_error
from pathprep.page.environment import data_uri
from pathprep.storage.confined import inside
from pathprep.storage.json_files import read_json
from pathprep.storage.regular import read
from pathtrain.evaluate.papers.paper import PAPERS

FOLDER = "evaluation"
# Task of a result file -> its name in the run's folder
FILES = {
    "knn": "knn.json",
    "linear": "linear.json",
    **{f"table {paper}": f"table-{paper}.json" for paper in PAPERS},
    "collapse": "collapse.json",
    "collapse panels": "collapse-panels.json",
}
MOST_PICTURE = 64 * 2**20  # bytes of a figure beside a result; a page holds it whole


@dataclass(frozen=True)
class Result:
    """One evaluation.

    Attributes:
        value: what its command wrote.
        models: names of the models that it is of.
        own: whether one of them is the run's. step: of that one.
        picture: the t-SNE beside the file, as a data URI, or None.
        source: the file.
    """

    value: dict[str, Any]
    models: list[str]
    own: bool
    step: int | None
    picture: str | None
    source: Path


def find(run: Path, files: Sequence[Path] = ()) -> dict[str, Result]:
    """Task -> result; a file that is given goes before the run's own of the same task.

    Raises:
        UsageError: a file is damaged, or none of an evaluation; two that are given are of one task.
        OutsideError: its figure is not in its folder.
    """
    found = {task: run / FOLDER / name for task, name in FILES.items() if (run / FOLDER / name).is_file()}
    given: dict[str, Path] = {}
    for path in files:
        task = str(_read(path).get("task"))
        if task not in FILES:
            known = ", ".join(FILES)
            raise UsageError(f"{path}: not a result of `pathtrain evaluate` that the page shows ({known})")
        if task in given:
            raise UsageError(f"{path}: of the same evaluation as {given[task]} ({task}); give one of them")
        given[task] = path
    return {task: _result(path, run) for task, path in {**found, **given}.items()}


def heads_file(run: Path) -> list[Path]:
    """The file of ``heads``, if there is one."""
    path = run / FOLDER / "tasks.json"
    return [path] if path.is_file() else []


def heads(run: Path) -> dict[str, Any] | None:
    """What `pathtrain evaluate tasks` found of a run with slide-level heads.

    Raises:
        UsageError: the file is damaged.
    """
    return next(map(_read, heads_file(run)), None)


def _read(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if value is None:
        what = "damaged, or no result of `pathtrain evaluate`; run its command again"
        raise UsageError(f"{path}: {what if path.is_file() else 'no such file'}")
    return value


def _result(path: Path, run: Path) -> Result:
    value = _read(path)
    try:
        models = [entry["model"] for entry in value.get("models") or value.get("panels") or [value]]
        # what lies in the run's folder is of it; of several models, the one that is called as the run is
        mine = [model for model in models if model["name"] == run.resolve().name]
        if not mine and len(models) == 1 and path.parent.resolve() == (run / FOLDER).resolve():
            mine = models
        picture = inside(path.parent, str(value["tsne"]["file"])) if "tsne" in value else None
        return Result(
            value,
            list(dict.fromkeys(model["name"] for model in models)),
            bool(mine),
            mine[-1]["step"] if mine else None,
            data_uri("image/png", read(picture, MOST_PICTURE)) if picture and picture.is_file() else None,
            path,
        )
    except OSError as error:
        raise UsageError(explain_os_error(error, reading=True)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: of another version (no {error}); run `pathtrain evaluate` again") from None
