"""The choice of the recipe, on validating groups alone: a few candidates, each trained for some minutes.

Every candidate is the base recipe (``common.recipe``) with changes. It is trained on the pool without the
validating groups, and scored by logistic regression fitted on the sides ``fit`` and asked on ``validation``:
EBHI as it is, LC25000 equalised, mitoses. The mean of their AUROCs decides, of the candidates; beside them
stand what they are compared with later. The winner is written to encoder.yaml of the work folder, with the
steps of the real training, and choice.json says so: from then on test groups may be looked at.
"""

import json
import re
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pathprep.storage import atomic
from pathtrain.recipes.load import dump, load
from pathtrain.recipes.strict import Strict
from small.core.config import Study
from small.core.encoders import Encoder, beside, features, handmade, of_runs
from small.core.pool import pool
from small.core.scores import Labels, auroc, guesses
from small.core.tiles import CHOICE, folder
from small.core.training import Job, seconds, trained

ASKED = (("ebhi", "plain"), ("lc25000", "equalised"), ("mitoses", "plain"))


class Settings(Strict):
    """What is tried.

    Attributes:
        steps: of each candidate.
        final_steps: of the recipe that is chosen.
        candidates: name -> changes of the base recipe, ``key=value``.
    """

    steps: Annotated[int, Field(ge=1)]
    final_steps: Annotated[int, Field(ge=1)]
    candidates: dict[str, list[str]]


def run(study: Study) -> dict[str, Any]:
    """Train and score the candidates, and write the choice down."""
    settings = study.part("choice", Settings)
    recipe, data = study.config.parent / study.common.recipe, pool(study, "choice")
    steps = (f"steps={settings.steps}", f"checkpoint.every={settings.steps}")
    jobs = {
        name: Job("choice-" + re.sub("[^a-z0-9]+", "-", name.lower()), recipe, data, (*changes, *steps))
        for name, changes in settings.candidates.items()
    }
    runs = trained(study, list(jobs.values()))
    encoders = [of_runs(study, name, [runs[job.name]]) for name, job in jobs.items()]
    rows = _scored(study, [*encoders, *beside(study, encoders[0])])
    for row in rows:
        if row["encoder"] in jobs:
            row["seconds"] = seconds(study, jobs[row["encoder"]].name)
    best = max((row for row in rows if row["encoder"] in jobs), key=lambda row: float(row["mean"]))["encoder"]
    final = load(recipe, [*settings.candidates[best], f"steps={settings.final_steps}"])
    atomic.write_bytes(study.recipe_file, dump(final).encode())
    chosen = {"candidate": best, "changes": settings.candidates[best], "final_steps": settings.final_steps}
    atomic.write_bytes(study.work / CHOICE, json.dumps(chosen, indent=1).encode())
    return {"settings": settings.model_dump(mode="json"), "rows": rows, **chosen}


def _scored(study: Study, encoders: list[Encoder]) -> list[dict[str, Any]]:
    """AUROC on the validating groups of each set: a row per encoder, the mean over its seeds."""
    found: dict[str, dict[str, float]] = {}
    for name, kind in ASKED:
        sides = [folder(study, name, "fit", kind), folder(study, name, "validation", kind)]
        known, asked = map(Labels.of, sides)
        said = guesses(known, tuple(features(study, encoders, side) | handmade(side) for side in sides))
        once = np.ones((1, len(asked.label)))
        for encoder, each in said.items():
            values = [float(auroc(one.probabilities, asked.label, once)[0]) for one in each]
            found.setdefault(encoder, {})[f"{name}, {kind}"] = float(np.mean(values))
    return [
        {"encoder": name, **each, "mean": float(np.mean(list(each.values())))} for name, each in found.items()
    ]


def markdown(result: dict[str, Any]) -> str:
    """The candidates, best first, and what they are compared with."""
    sets = [f"{name}, {kind}" for name, kind in ASKED]
    lines = ["| candidate | changes of the base recipe | minutes | " + " | ".join(sets) + " | mean |"]
    lines.append("| --- " * (4 + len(sets)) + "|")
    for row in sorted(result["rows"], key=lambda row: -row["mean"]):
        changes = ", ".join(result["settings"]["candidates"].get(row["encoder"], []))
        minutes = f"{row['seconds'] / 60:.1f}" if "seconds" in row else ""
        name = f"**{row['encoder']}**" if row["encoder"] == result["candidate"] else row["encoder"]
        cells = [name, changes, minutes, *(f"{row[each]:.3f}" for each in [*sets, "mean"])]
        lines.append(f"| {' | '.join(cells)} |")
    steps = result["settings"]["steps"]
    return "\n".join(
        [*lines, "", f"AUROC on validating groups, {steps} steps each, one seed; chosen in bold.", ""]
    )
