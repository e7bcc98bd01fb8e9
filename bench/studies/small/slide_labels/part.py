"""Part 3: do slide labels, through all three stages, make a better encoder of slides than a frozen one?

EXAONE Path 2.0's claim, on slides that colour says nothing of: five folds of slides that share no original
(slide_labels/cohort.py), the arms of slide_labels/arms.py at equal steps. Learning rate (or C) of each arm
is the best of a grid on one fold, trained on three others; the fifth is not seen. That fold and those
slides are tested in other folds: the choice of one of two values has seen them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.storage import atomic
from pathtrain.recipes.strict import Strict
from pathtrain.runs.opening import load
from pathtrain.runs.variants import untrained
from small.core.config import TREE, Study
from small.core.encoders import COLOUR, FIRST_SEED, PATTERNS, Encoder, features, handmade
from small.core.pool import imported
from small.core.scores import Floats
from small.core.tiles import check_side, rows, table_of
from small.core.training import seconds, trained
from small.slide_labels.arms import (
    DINO,
    DINO_FROZEN,
    DINO_TRAINED,
    POOLED,
    RANDOM_FROZEN,
    RANDOM_POOLED,
    RANDOM_TRAINED,
    RECIPE,
    TRAINED,
    Predictions,
    TrainingSettings,
    asked,
    classes,
    dino_job,
    encoder_of,
    job,
    pooled,
    regression,
)
from small.slide_labels.cohort import FOLDS, TASKS, CohortSettings, shared, table, write
from small.slide_labels.scores import Claim, gap, plain, scored, sentences
from small.slide_labels.scores import table as lines_of

TEST, VALIDATES = 0, 1  # the fold whose inner slides choose, and the inner one that is looked at
CLAIMS: tuple[Claim, ...] = (
    (DINO_TRAINED, DINO_FROZEN, "From DINO's weights, slide labels in stage 1 help"),
    (RANDOM_TRAINED, RANDOM_FROZEN, "From random weights, slide labels in stage 1 help"),
    (DINO_FROZEN, RANDOM_FROZEN, "A frozen stage 1 is better from DINO than random"),
    (DINO_TRAINED, RANDOM_TRAINED, "End to end is better from DINO than from random weights"),
    (DINO_TRAINED, POOLED, "All three stages end to end beat a linear head on pooled DINO features"),
    (DINO_FROZEN, POOLED, "Stages 2 and 3 on frozen DINO features beat a linear head on their mean"),
    (POOLED, RANDOM_POOLED, "Pooled features of DINO beat those of random weights"),
    (POOLED, PATTERNS, "Pooled features of DINO beat handmade texture"),
    (DINO_TRAINED, PATTERNS, "All three stages end to end from DINO beat handmade texture"),
)
Features = dict[str, Floats]
POOLED_ARMS = (POOLED, RANDOM_POOLED, COLOUR, PATTERNS)


class Settings(Strict):
    """See cohort.CohortSettings and arms.TrainingSettings."""

    cohort: CohortSettings = CohortSettings()
    training: TrainingSettings = TrainingSettings()


def run(study: Study) -> dict[str, Any]:
    """Compose, train and score.

    Raises:
        TestGroups: before the choice is made: slides hold LC25000's test groups too.
    """
    settings = study.part("slide_labels", Settings)
    check_side(study, "test")
    where, data = prepare(study, settings.cohort)
    slides, training = table(where), settings.training
    runs, tuned, tried = _chosen(study, settings, where, data, slides)
    seeds = range(training.seeds)
    jobs = {
        (arm, fold, seed): job(
            f"slides-{arm.replace(', ', '-').replace(' ', '-')}-{fold}-{seed}",
            arm,
            data,
            labels(where, slides, f"fold-{fold}", [other for other in range(FOLDS) if other != fold]),
            tuned[arm],
            seed,
            training,
            encoder_of(runs[DINO]),
        )
        for arm in TRAINED
        for fold in range(FOLDS)
        for seed in seeds
    }
    done = trained(study, list(jobs.values()))
    said: dict[str, list[Predictions]] = {}
    for arm in TRAINED:
        said[arm] = [
            _out_of_fold(slides, [done[jobs[arm, f, seed].name] for f in range(FOLDS)], data, where)
            for seed in seeds
        ]
    found = pooled_features(study, where, slides, runs[DINO])
    for arm, x in found.items():
        said[arm] = [_regressions(slides, x, tuned[arm])]
    scores = scored(said, slides, classes(slides), CLAIMS)
    return {
        "settings": settings.model_dump(mode="json"),
        "recipe": RECIPE,
        "cohort": json.loads((where / "about.json").read_text()),
        "shared": shared(study.data),
        "tried": tried,
        "tuned": tuned,
        "seconds_of_training": {
            name: seconds(study, name) for name in [DINO, *(one.name for one in jobs.values())]
        },
        **scores,
        "sentences": sentences(scores, CLAIMS, COLOUR),
    }


def prepare(study: Study, settings: CohortSettings) -> tuple[Path, Path]:
    """The composed slides' folder, and the dataset of them; both made once."""
    where, data = study.work / "slides", study.work / "sets" / "slides"
    if not where.exists():
        write(where, list(rows(study.data, "lc25000")), settings)
    words = ["shard", where / "slides", "--out", data, "--tile", settings.tile, "--masks", where / "masks"]
    words += ["--stain", "none", "--quality", 100, "--subsampling", 444, "--workers", study.common.at_once]
    command = [sys.executable, "-m", "pathprep", *map(str, words)]
    # its output is for the terminal; the study's own is the result
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    return where, data


def labels(where: Path, slides: Sequence[dict[str, str]], name: str, folds: Sequence[int]) -> Path:
    """The labels of the slides of some folds, to train with."""
    lines = [",".join(("slide_id", *TASKS))]
    lines += [
        ",".join((row["slide_id"], *(row[task] for task in TASKS)))
        for row in slides
        if int(row["fold"]) in folds
    ]
    path = where / f"labels-{name}.csv"
    atomic.write_bytes(path, ("\n".join(lines) + "\n").encode())
    return path


def pooled_features(study: Study, where: Path, slides: Sequence[dict[str, str]], run: Path) -> Features:
    """Arm -> (S, D): what logistic regressions are given."""
    tiles, names = where / "tiles", [row["slide_id"] for row in slides]
    model = load(encoder_of(run))
    networks = {POOLED: model, RANDOM_POOLED: untrained(model, FIRST_SEED)}
    encoders = [Encoder(arm, (one,), model.size) for arm, one in networks.items()]
    found = features(study, encoders, tiles) | handmade(tiles)
    group = [row["group"] for row in table_of(tiles / "labels.csv")]
    return {arm: pooled(found[arm][0], group, names) for arm in POOLED_ARMS}


def _chosen(
    study: Study, settings: Settings, where: Path, data: Path, slides: Sequence[dict[str, str]]
) -> tuple[dict[str, Path], dict[str, float], dict[str, list[dict[str, float]]]]:
    """DINO's run, and by arm the value of its grid that inner slides are for, and all that was tried."""
    training = settings.training
    inner = [fold for fold in range(FOLDS) if fold not in (TEST, VALIDATES)]
    known = labels(where, slides, "inner", inner)
    wanted = [row for row in slides if int(row["fold"]) == VALIDATES]
    fit = [row for row in slides if int(row["fold"]) in inner]
    runs: dict[str, Path] = {}
    tries: dict[str, list[dict[str, float]]] = {}

    def tune(arms: Sequence[str], start: Path) -> dict[str, list[str]]:
        made = {}
        for arm in arms:
            own = [
                job(
                    f"slides-tune-{arm.replace(', ', '-').replace(' ', '-')}-{at}",
                    arm,
                    data,
                    known,
                    rate,
                    0,
                    training,
                    start,
                )
                for at, rate in enumerate(training.rates)
            ]
            made[arm] = own
        jobs = [one for own in made.values() for one in own]
        runs.update(trained(study, ([] if DINO in runs else [first]) + jobs))
        return {arm: [one.name for one in own] for arm, own in made.items()}

    first = dino_job(imported(where / "dino", study.work / "sets" / "slides-dino"), training)
    # the random arms' trainings run beside DINO's
    names = tune((RANDOM_FROZEN, RANDOM_TRAINED), Path())
    names |= tune((DINO_FROZEN, DINO_TRAINED), encoder_of(runs[DINO]))
    order = [row["slide_id"] for row in wanted]
    for arm in TRAINED:
        tries[arm] = [
            _tried(rate, asked(runs[name], data, known, order), wanted, slides)
            for rate, name in zip(training.rates, names[arm], strict=True)
        ]
    at = {row["slide_id"]: place for place, row in enumerate(slides)}
    rows_fit, rows_wanted = ([at[row["slide_id"]] for row in part] for part in (fit, wanted))
    for arm, x in pooled_features(study, where, slides, runs[DINO]).items():
        tries[arm] = [
            _tried(
                strength,
                {
                    task: regression(x[rows_fit], [row[task] for row in fit], x[rows_wanted], strength)
                    for task in TASKS
                },
                wanted,
                slides,
            )
            for strength in training.strengths
        ]
    best = {
        arm: max(found, key=lambda one: (one["auroc"], one["balanced_accuracy"]))
        for arm, found in tries.items()
    }
    return runs, {arm: one["value"] for arm, one in best.items()}, tries


def _tried(
    value: float, said: Predictions, wanted: Sequence[dict[str, str]], slides: Sequence[dict[str, str]]
) -> dict[str, float]:
    auroc, balanced = plain(said, wanted, classes(slides))
    return {"value": value, "auroc": auroc, "balanced_accuracy": balanced}


def _out_of_fold(
    slides: Sequence[dict[str, str]], runs: Sequence[Path], data: Path, where: Path
) -> Predictions:
    """Each slide by the run of the fold that tests it."""
    kinds = classes(slides)
    found = {task: np.full((len(slides), len(kinds[task])), np.nan) for task in TASKS}
    for fold, run in enumerate(runs):
        places = [place for place, row in enumerate(slides) if int(row["fold"]) == fold]
        said = asked(
            run, data, where / f"labels-fold-{fold}.csv", [slides[place]["slide_id"] for place in places]
        )
        for task in TASKS:
            found[task][places] = said[task]
    return found


def _regressions(slides: Sequence[dict[str, str]], x: Floats, strength: float) -> Predictions:
    kinds = classes(slides)
    fold = np.array([int(row["fold"]) for row in slides])
    found = {task: np.full((len(slides), len(kinds[task])), np.nan) for task in TASKS}
    for number in range(FOLDS):
        known, wanted = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        for task in TASKS:
            y = [slides[place][task] for place in known]
            found[task][wanted] = regression(x[known], y, x[wanted], strength)
    return found


def markdown(result: dict[str, Any]) -> str:
    """What holds, the tables, and how they were made."""
    cohort, common, training = result["cohort"], result["shared"], result["settings"]["training"]
    lines = [*(f"- {line}" for line in result["sentences"]), ""]
    for score in ("auroc", "balanced_accuracy"):
        lines += [*lines_of(result, score), ""]
    lines += ["| first minus second, mean over tasks | AUROC | balanced accuracy |", "| --- | --- | --- |"]
    means = [row for row in result["differences"] if row["task"] == "mean over tasks"]
    for one, other, _ in CLAIMS:
        own = {row["score"]: row for row in means if (row["first"], row["second"]) == (one, other)}
        lines.append(f"| {one} - {other} | {gap(own['auroc'])} | {gap(own['balanced_accuracy'])} |")
    values = "; ".join(f"{arm} {value:g}" for arm, value in result["tuned"].items())
    rates, strengths = (", ".join(f"{one:g}" for one in training[key]) for key in ("rates", "strengths"))
    minutes = sum(result["seconds_of_training"].values()) / 60
    lines += [
        "",
        f"{cohort['slides']} slides of {cohort['tiles']} tiles of LC25000, equalised (grey, one histogram "
        f"for every tile), in {FOLDS} folds. No original is in two slides ({cohort['originals']} in "
        f"{cohort['groups']} groups; tiles of two of them correlate at {cohort['closest']:.2f} at most), and "
        f"DINO saw {cohort['dino']} tiles of originals that are in none. Intervals are over slides; LC25000 "
        "does not say which patient an original is of. They are not corrected for the "
        f"{len(CLAIMS)} comparisons, and hold nothing of other training slides or seeds (of these there are "
        f"{training['seeds']} a fold). The data's own cohort cannot be divided: {common['cells_shared']} of "
        f"its {common['cells']} tiles are in several slides, which hang together in groups of "
        f"{', '.join(map(str, common['components']))}.",
        "",
        "How much of a slide is tumour, and that no organ is asked, was chosen by handmade features of all "
        "slides in a pilot, in which texture told organs at an AUROC of 1.00. Colour is of the tiles as they "
        "are equalised; networks read them from JPEGs of quality 100, whose rounding moves a tile's mean and "
        "SD by some .02 grey levels, by its texture.",
        "",
        f"Three stages of {result['recipe']}, {training['steps']} steps of {training['batch']} slides; DINO "
        f"{training['dino_steps']} steps of {training['dino_batch']} tiles. Chosen on inner slides, of "
        f"learning rates {rates} or C {strengths}: {values}. Trainings took {minutes:.0f} minutes of one "
        "core or less, without those of the choice.",
        "",
    ]
    return "\n".join(lines)
