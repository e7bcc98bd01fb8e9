"""Part 1: does a small encoder, trained for minutes, know more of tissue than colour, texture and chance do?

The arms have the same network, views and steps, on all tiles that may be trained on. Each is scored on test
groups that neither training nor choice has seen, beside what core/encoders.py lists; and at some steps on
the way.
"""

from typing import Annotated, Any

from pydantic import Field

from pathtrain.recipes.strict import Strict
from pathtrain.runs.milestones import entries
from small import dense
from small.core import paired
from small.core.config import Study
from small.core.encoders import (
    BASELINES,
    COLOUR,
    IMAGENET,
    PATTERNS,
    RANDOM,
    START,
    Encoder,
    beside,
    handmade,
    of_runs,
)
from small.core.encoders import features as encoded
from small.core.pool import pool
from small.core.scores import Labels, guesses, rows_text, table
from small.core.tiles import Kind, folder
from small.core.training import Job, seconds, trained
from small.dense.nuclei import Segmentation

# set, kind of tiles, the column that is asked. Content decides all but lc25000 as it is, which colour tells
TASKS: tuple[tuple[str, Kind], ...] = (
    ("ebhi", "plain"),
    ("ebhi", "equalised"),
    ("lc25000", "plain"),
    ("lc25000", "equalised"),
    ("mitoses", "plain"),
)
CONTENT = {"ebhi, plain", "ebhi, equalised", "lc25000, equalised", "mitoses, plain"}
ON_THE_WAY: tuple[tuple[str, Kind], ...] = (("ebhi", "plain"), ("lc25000", "equalised"))
NEAR = 0.05  # AUROC on EBHI that the ImageNet network may be ahead by


class Settings(Strict):
    """What is trained.

    Attributes:
        arms: name -> changes of the chosen recipe; the first is what the text is about.
        milestones: steps between the encoders that the curves are of.
        segmentation: how decoders of CoNSeP's nuclei are trained; windows at the scale that tiles have.
    """

    arms: dict[str, list[str]]
    milestones: Annotated[int, Field(ge=1)]
    segmentation: Segmentation = Segmentation(window=128, size=128)


def run(study: Study) -> dict[str, Any]:
    """Train the arms and score them."""
    settings, data = study.part("representation", Settings), pool(study, "final")
    jobs = {
        (arm, seed): Job(
            f"representation-{number}-{seed}",
            study.recipe,
            data,
            (*changes, f"seed={seed}", f"checkpoint.milestones={settings.milestones}"),
        )
        for number, (arm, changes) in enumerate(settings.arms.items())
        for seed in range(study.common.seeds)
    }
    runs = trained(study, list(jobs.values()))
    places = {arm: [runs[job.name] for (own, _), job in jobs.items() if own == arm] for arm in settings.arms}
    arms = [of_runs(study, arm, where) for arm, where in places.items()]
    tasks = {}
    for name, kind in TASKS:
        tasks[f"{name}, {kind}"] = scored(study, [*arms, *beside(study, arms[0])], name, kind)
    curves = []
    steps = [step for step, _ in entries(places[arms[0].name][0])]
    for arm, where in places.items():
        for at, step in enumerate(steps):
            encoder = of_runs(study, f"{arm} @{step}", [entries(run)[at][1] for run in where])
            for name, kind in ON_THE_WAY:
                rows = scored(study, [encoder], name, kind, with_handmade=False)
                curves += [{"arm": arm, "step": step, "tiles": f"{name}, {kind}", **row} for row in rows]
    return {
        "settings": settings.model_dump(mode="json"),
        "seconds_of_training": {job.name: seconds(study, job.name) for job in jobs.values()},
        "tasks": tasks,
        "dense": dense.scored(study, [*arms, *beside(study, arms[0])], settings.segmentation),
        "curves": curves,
        "sentences": sentences(tasks, list(settings.arms)),
    }


def scored(
    study: Study, encoders: list[Encoder], name: str, kind: Kind, with_handmade: bool = True
) -> list[dict[str, Any]]:
    """Rows of a task: fitted on the training side, asked on the test side."""
    sides = [folder(study, name, "train", kind), folder(study, name, "test", kind)]
    known, asked = Labels.of(sides[0]), Labels.of(sides[1])
    made = [encoded(study, encoders, side) | (handmade(side) if with_handmade else {}) for side in sides]
    found = guesses(known, (made[0], made[1]))
    arms = [name for name in found if name not in BASELINES]
    against = {arm: [other for other in found if other != arm] for arm in arms}
    return table(found, asked, against)


def sentences(tasks: dict[str, list[dict[str, Any]]], arms: list[str]) -> list[str]:
    """What holds of the goals, and what does not, by AUROC."""
    first, lines = arms[0], []
    for task, rows in tasks.items():
        own = next(row for row in rows if row["encoder"] == first and row["figure"] == "auroc")
        lines += [f"{task}: {line}" for line in paired.summaries([own], [first])]
    lost = [
        f"{task} ({other})"
        for task in sorted(CONTENT & tasks.keys())
        for other in (COLOUR, RANDOM, START, PATTERNS)
        if not _ahead(tasks[task], first, other)
    ]
    lines.append(
        f"Clearly above colour, patterns, random and first weights wherever content decides: "
        f"{'yes' if not lost else 'no; not in ' + ', '.join(lost)}."
    )
    gaps = [row["minus"].get(IMAGENET) for row in tasks["ebhi, plain"] if row["encoder"] == first]
    gap = gaps[0]
    if gap is not None:
        held = "yes" if gap["value"] >= -NEAR else "no"
        lines.append(f"Within {NEAR} AUROC of the ImageNet network on EBHI: {held} ({gap['value']:+.3f}).")
    return lines


def _ahead(rows: list[dict[str, Any]], arm: str, other: str) -> bool:
    own = next(row for row in rows if row["encoder"] == arm and row["figure"] == "auroc")
    return bool(own["minus"][other]["clear"] and own["minus"][other]["value"] > 0)


def markdown(result: dict[str, Any]) -> str:
    """Tables by task, and the curves."""
    lines = [*(f"- {line}" for line in result["sentences"]), ""]
    for task, rows in result["tasks"].items():
        lines += [f"### {task}", "", *rows_text(rows), ""]
    lines += [dense.markdown(result["dense"]), "### On the way", ""]
    lines += ["| arm | step | tiles | AUROC | balanced accuracy | kNN |", "| --- " * 6 + "|"]
    at: dict[tuple[str, int, str], dict[str, str]] = {}
    for row in result["curves"]:
        at.setdefault((row["arm"], row["step"], row["tiles"]), {})[row["figure"]] = f"{row['value']:.3f}"
    for (arm, step, tiles), values in at.items():
        lines.append(
            f"| {arm} | {step} | {tiles} | {values['auroc']} | {values['balanced']} | {values['knn']} |"
        )
    return "\n".join([*lines, ""])
