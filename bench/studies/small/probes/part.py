"""Part 5: do the numbers that a run shows while it trains foretell what the test says of its encoder?

Runs of the other parts are asked at their last step, and some of them along their steps. The probes are
those of `pathtrain pretrain` (kNN, rank, SD, collapse), by the same functions on training groups; the loss is
the log's.

    kNN         mean recall of 20 neighbours' vote, of validating tiles by fitting ones, of each set of TESTS
    rank, SD    effective rank and spread of EBHI's training features
    collapse    how much more often than by chance a mitosis' 20 neighbours are of its own case; less is
                better
    loss        of the step's row; less is better. Across runs only those of the commonest method are
                compared, as losses of different sums are not of one scale

No probe has seen a test group; the encoders have seen the probes' tiles, without labels, as on a lab's own
data. The test is AUROC of a linear layer fitted on all training groups. A run is one seed of an arm; runs are
compared with those of their own part.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.evaluate.statistics import Doubles, Floats
from pathtrain.evaluate.tile_level.collapse_figures import shares
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.losses import spread
from pathtrain.metrics import rankme
from pathtrain.recipes.strict import Strict
from pathtrain.runs import milestones
from pathtrain.runs.described import recipe_of
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load
from small.core.config import Study
from small.core.encoders import Encoder, features
from small.core.scores import Labels, auroc, guess, recall
from small.core.tiles import Kind, folder, rows
from small.probes import words as probe_words
from small.probes.foretelling import across, along
from small.resolution import runs as resolution_runs

TESTS: tuple[tuple[str, Kind], ...] = (("ebhi", "plain"), ("lc25000", "equalised"), ("mitoses", "plain"))
METHODS = ("dino", "dinov2")
NEIGHBOURS = 20
LESS = ("collapse", "loss")  # of which less is better


class Settings(Strict):
    """Which runs are asked.

    Attributes:
        parts: what their names begin with.
        steps: of a run at most that are looked at, evenly, the last one too.
        seeds: of an arm that are looked at along their steps; all are at their last.
        tests: how many of TESTS, from the first.
    """

    parts: tuple[str, ...] = ("representation", "stain", "resolution")
    steps: Annotated[int, Field(ge=1)] = 4
    seeds: Annotated[int, Field(ge=0)] = 1
    tests: Annotated[int, Field(ge=1, le=len(TESTS))] = len(TESTS)


@dataclass(frozen=True)
class Moment:
    """A run's encoder after some steps.

    Attributes:
        run, arm, method: its name, that without its seed, and of its recipe.
        step: that it is of. last: whether training ended there. place: what is opened.
        probes, tests: by name, as they are found.
    """

    run: str
    arm: str
    method: str
    step: int
    last: bool
    place: Path
    probes: dict[str, float] = field(default_factory=dict)
    tests: dict[str, float] = field(default_factory=dict)


def run(study: Study) -> dict[str, Any]:
    """Measure the moments, and what foretells what."""
    settings = study.part("probes", Settings)
    found = moments(study, settings)
    print(f"probes: {counted(len(found), 'encoder')} to look at", file=sys.stderr, flush=True)
    _measure(study, found, TESTS[: settings.tests])
    table = told(found)
    return {
        "settings": settings.model_dump(mode="json"),
        "moments": [
            {
                "run": each.run,
                "step": each.step,
                "last": each.last,
                "probes": each.probes,
                "tests": each.tests,
            }
            for each in found
        ],
        **table,
        "sentences": probe_words.sentences(table),
    }


def moments(study: Study, settings: Settings) -> list[Moment]:
    """The encoders to look at, of all finished runs of tiles.

    Raises:
        UsageError: there is none.
    """
    found: list[Moment] = []
    seen: Counter[str] = Counter()
    for done in sorted((study.work / "runs").glob("*.json")):
        run, name = done.with_suffix(""), done.stem
        if not name.startswith(settings.parts) or not run.is_dir():
            continue
        recipe = recipe_of(run)
        if recipe.method not in METHODS:
            continue
        arm = re.sub(r"-\d+$", "", name)
        end = int(load(run).step or 0)
        kept = [(step, path) for step, path in milestones.entries(run) if step < end]
        wanted = settings.steps - 1 if seen[arm] < settings.seeds else 0
        places = np.unique(np.linspace(0, len(kept) - 1, min(wanted, len(kept))).round().astype(int))
        for step, path in [*(kept[place] for place in places), (end, run)]:
            found.append(Moment(name, arm, recipe.method, step, step == end, path, _loss(run, step)))
        seen[arm] += 1
    if not found:
        raise UsageError(
            f"{study.work / 'runs'}: no finished run of {', '.join(settings.parts)}; make these parts first"
        )
    return found


def _loss(run: Path, step: int) -> dict[str, float]:
    """The loss of the newest row of the log up to a step."""
    read = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    found = [row["loss"] for row in read if row["step"] <= step and "loss" in row]
    return {"loss": float(found[-1])} if found else {}


def _measure(study: Study, found: Sequence[Moment], tests: Sequence[tuple[str, Kind]]) -> None:
    """Fill in probes and tests; tiles are read once for all networks that see them alike."""
    alike: dict[Any, list[tuple[Moment, LoadedModel]]] = {}
    for each in found:
        model = load(each.place, readout=study.common.readout)
        size = _size(study, each.run)
        alike.setdefault((size, model.config.mean, model.config.std, str(model.target)), []).append(
            (each, model)
        )
    for name, kind in tests:
        sides = folder(study, name, "train", kind), folder(study, name, "test", kind)
        known, asked = map(Labels.of, sides)
        validates = np.array([row.validates for row in rows(study.data, name) if row.on("train")])
        for (size, *_), several in alike.items():
            encoder = Encoder("several", tuple(model for _, model in several), size)
            train, test = (features(study, [encoder], side)["several"] for side in sides)
            for (moment, _), x, y in zip(several, train, test, strict=True):
                moment.probes.update(probed(name, x, known, validates))
                said = guess(x, known, y).probabilities
                moment.tests[name] = float(auroc(said, asked.label, np.ones((1, len(y))))[0])


def _size(study: Study, run: str) -> int:
    """Side that the runs of a part are scored at here, all alike; part 4 has sizes of its own."""
    if not run.startswith("resolution"):
        return study.common.size
    settings = study.part("resolution", resolution_runs.Settings)
    own, _ = settings.sizes(resolution_runs.recipe_of(study, settings))
    return own


def probed(name: str, x: Floats, known: Labels, validates: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The probes that are measured on a set.

    Args:
        name: of the set. x: (N, D) of its training tiles. known: their labels and groups.
        validates: (N,) those that are asked; the others vote.
    """
    fit, label = ~validates, known.label
    nearest = vote(x[fit], label[fit], x[validates], NEIGHBOURS, len(known.classes))
    once = np.ones((1, int(validates.sum())))
    found = {f"kNN of {name}": float(recall(nearest, label[validates], once)[0])}
    if name == "ebhi":
        found["rank"] = float(rankme(x))
        found["SD"] = float(spread.deviation(spread.moments(torch.from_numpy(x))))
    if name == "mitoses":
        own, chance = (float(values.mean()) for values in shares(x, known.group, NEIGHBOURS))
        found["collapse"] = (own - chance) / (1 - chance)
    return found


def told(found: Sequence[Moment]) -> dict[str, Any]:
    """``across`` and ``along``: probe -> test -> what probes/foretelling.py says of them, or None."""
    last = [each for each in found if each.last]
    probes = list(dict.fromkeys(name for each in last for name in each.probes))
    tests = list(dict.fromkeys(name for each in last for name in each.tests))
    return {
        "across": {probe: {test: _across(last, probe, test) for test in tests} for probe in probes},
        "along": {probe: {test: _along(found, probe, test) for test in tests} for probe in probes},
    }


def _values(found: Sequence[Moment], probe: str, test: str) -> tuple[Doubles, Doubles]:
    sign = -1 if probe in LESS else 1
    return (
        np.array([sign * each.probes[probe] for each in found]),
        np.array([each.tests[test] for each in found]),
    )


def _across(last: Sequence[Moment], probe: str, test: str) -> dict[str, Any] | None:
    have = [each for each in last if probe in each.probes and test in each.tests]
    if probe == "loss" and have:
        ((usual, _),) = Counter(each.method for each in have).most_common(1)
        have = [each for each in have if each.method == usual]
    arm, part = (
        np.unique(names, return_inverse=True)[1].astype(np.int64)
        for names in ([each.arm for each in have], [each.arm.partition("-")[0] for each in have])
    )
    return across(*_values(have, probe, test), arm, part)


def _along(found: Sequence[Moment], probe: str, test: str) -> dict[str, Any] | None:
    by_run: dict[str, list[Moment]] = {}
    for each in found:
        if probe in each.probes and test in each.tests:
            by_run.setdefault(each.run, []).append(each)
    return along([_values(sorted(each, key=lambda one: one.step), probe, test) for each in by_run.values()])


def markdown(result: Mapping[str, Any]) -> str:
    """Correlations as tables, then the sentences."""
    return probe_words.markdown(result)
