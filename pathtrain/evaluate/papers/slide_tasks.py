"""A table's tasks of slides: tiles embedded by every model and its baselines, and `evaluate slides` on them.

All models are scored in one go, so that they are compared on the same patients, by the same tests as there.
Features lie in the cache, a folder a network and data, and are not made again.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError
from pathprep.params.settings import build, flat
from pathtrain.distributed.workers import by_itself
from pathtrain.evaluate.baselines import HANDMADE, RANDOM, START, Beside
from pathtrain.evaluate.cache import key
from pathtrain.evaluate.papers.data_state import files
from pathtrain.evaluate.slide_level.study import slides
from pathtrain.evaluate.units import Scored
from pathtrain.features.embed import embed
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import How
from pathtrain.params.slide_level import SlidesConfig
from pathtrain.runs.finishing import with_readout
from pathtrain.runs.model import LoadedModel

# What a task may set of how tiles are cut, where ``data`` are slides
CUTS = ("tile", "mpp", "max_tiles", "min_tissue", "workers")
BASE = ("baselines", "random_seeds", "seed")


def settings() -> frozenset[str]:
    """Flat names of what a task of slides may set."""
    encoding = set(flat(How)) - {"size", "resize", "weights"}
    return frozenset({*encoding, *flat(SlidesConfig), *CUTS, *BASE})


def slides_scored(
    models: Sequence[LoadedModel], source: Mapping[str, Any], cache: Path | None, **given: Any
) -> Scored:
    """Score models on a task of slides.

    Args:
        models: of different names.
        source: ``data``, a dataset or slides; ``labels``, a table or the folder of a challenge; and perhaps
            ``tasks``, a YAML of tasks or the name of one that comes with the package, and ``task``.
        cache: where features are kept; None: in a temporary folder.
        given: of ``settings``.

    Returns:
        ``of_models``: by name what other evaluations give of one model; ``differences`` of models by figure,
        with intervals, p and p by Holm; and ``slides``, the result of `evaluate slides`. No units.

    Raises:
        PathprepError: as ``embed`` and ``slides``.
    """
    chosen = BaselineParams(given.get("baselines", BaselineParams.chosen), given.get("random_seeds", 3))
    seed = given.get("seed", 0)
    read = {name: value for name, value in given.items() if name in flat(How) and name != "readout"}
    cut = {name: value for name, value in given.items() if name in CUTS}
    how = {name: value for name, value in given.items() if name in flat(SlidesConfig)}
    methods = build(SlidesConfig, how).settled().methods
    if len(methods) > 1:
        raise UsageError(f"`method` {', '.join(methods)}: a table has one figure per model; give one of them")
    data, stored = source["data"], (Path(source["data"]) / "dataset.json").is_file()
    # a folder holds the features of these slides and no others: those of one that is gone must not count
    found = files(Path(data, "shards") if stored else Path(data))
    shown = [state[0] for state in found] if Path(data).is_dir() else list(found)  # a CSV names slides
    handmade = [name for name, words in zip(HANDMADE, ("colour", "lbp"), strict=True) if words in chosen]
    with ExitStack() as open_things:
        open_things.enter_context(by_itself())
        root = cache / "slides" if cache else Path(open_things.enter_context(tempfile.TemporaryDirectory()))
        folders: dict[str, Path] = {}
        about: dict[str, dict[str, Any]] = {}
        for model in models:
            asked = model if given.get("readout") is None else with_readout(model, given["readout"])
            beside = Beside.of(asked, chosen, seed)
            about[model.name] = beside.about
            for name, networks in beside.networks.items():
                for number, network in enumerate(networks):
                    place = root / key(network.fingerprint, str(Path(data).absolute()), shown, read, cut)
                    embed(network, data, place, **read, **({} if stored else cut))
                    folders[_called(model, name, number)] = place
        result = slides(
            [f"{name}={place}" for name, place in folders.items()],
            [source["labels"]],
            tasks=source.get("tasks"),
            task=[source["task"]] if source.get("task") else (),
            dataset=data if stored and handmade else None,
            **how,
        )
    return Scored(_divided(result, models, about, handmade), {})


def _called(model: LoadedModel, name: str, number: int) -> str:
    """What `evaluate slides` calls a network: the model itself by its name."""
    return model.name if name == "model" else f"{model.name}, {name} {number}"


def _divided(
    result: dict[str, Any],
    models: Sequence[LoadedModel],
    about: Mapping[str, dict[str, Any]],
    handmade: Sequence[str],
) -> dict[str, Any]:
    there = [each for each in result["tasks"] if not each["missing"]]
    if len(there) != 1:
        names = ", ".join(each["name"] for each in there)
        reasons = "; ".join(f"{each['name']}: {each['missing']}" for each in result["tasks"])
        raise UsageError(
            f"its labels are of several tasks ({names}); say one as `task`" if there else reasons
        )
    (task,) = there
    found = {row["model"]: row for row in task["results"]}
    figures = [
        name for name, value in task["results"][0].items() if isinstance(value, dict) and "mean" in value
    ]
    of_models: dict[str, Any] = {}
    for model in models:
        own = found[model.name]
        rows: list[dict[str, Any]] = [{"name": "model", **_figures([own], figures), "lead": None}]
        for name in (START, RANDOM):
            rows += _row(
                name, own, found, [f"{model.name}, {name} {number}" for number in range(len(found))], figures
            )
        for name in handmade:
            rows += _row(name, own, found, [name], figures)
        of_models[model.name] = {"results": rows, "baselines": about[model.name]}
    return {
        "task": "slides",
        "of_models": of_models,
        "differences": [
            {"first": one.name, "second": two.name, **lead}
            for number, one in enumerate(models)
            for two in models[number + 1 :]
            for lead in found[one.name]["leads"]
            if lead["model"] == two.name
        ],
        "slides": result,
    }


def _row(
    name: str, own: dict[str, Any], found: Mapping[str, Any], keys: Sequence[str], figures: Sequence[str]
) -> list[dict[str, Any]]:
    """A baseline's row, of those of its networks that are there; none of none."""
    there = [key for key in keys if key in found]
    if not there:
        return []
    of_these = _figures([found[key] for key in there], figures)
    return [{"name": name, **of_these, "lead": _lead(own, there, figures)}]


def _figures(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Figures of a row; of several random networks their means, without an interval."""
    found: dict[str, Any] = {}
    for name in names:
        found[name] = sum(row[name]["mean"] for row in rows) / len(rows)
        found[f"{name}_interval"] = rows[0][name]["patients_interval"] if len(rows) == 1 else None
    return found


def _lead(own: dict[str, Any], over: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Of a model over baselines, as its row has it; over several the mean, without an interval."""
    leads = [lead for lead in own["leads"] if lead["model"] in over]
    if not leads:
        return {}
    found: dict[str, Any] = {}
    for name in names:
        found[name] = sum(lead[name] for lead in leads) / len(leads)
        found[f"{name}_interval"] = leads[0][f"{name}_interval"] if len(leads) == 1 else None
    return found
