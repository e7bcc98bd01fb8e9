"""Does the gradient from slide labels into stage 1 help? End to end, against the same with stage 1 frozen.

    python bench/studies/cohort_study.py TRAIN TEST --train-labels CSV --test-labels CSV [--json [FILE]]

TRAIN and TEST are datasets of `pathprep shard --stain fit`. For each seed, from the same random weights, with
the same slides, regions and steps in the same order:

    end to end        the recipe exaonepath2-tiny, slide labels through all three stages, and nothing else
    frozen stage 1    the same, but no gradient into stage 1, which stays random
    whole curriculum  both phases of the recipe: DINO on tiles and regions too (--curriculum-seeds)

and once, as they have no random part, logistic regressions on mean and SD of red, green and blue of a
slide's tiles: as they are stored, and normalised, which is what the models get. AUROC and balanced accuracy
on the test slides: mean over seeds with the smallest and largest. Differences are paired by seed and slide;
their intervals are a bootstrap over the test slides, drawn within each combination of labels: what another
training set would change is not in them.

The recipe's values were chosen on the training slides alone (25 of them to train, 15 to look at); that an
earlier version of it fell short was seen on the test slides. A run that is there is gone on with, so that the
study can be interrupted. A table (.md) goes with the results.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # bench/machine.py

from machine import add_json, describe, save, tag

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.dataset.reader import Dataset
from pathprep.storage import atomic
from pathtrain.data.slide_labels import UNKNOWN, SlideLabels, read, read_for
from pathtrain.data.slide_stream import Request, SlideIndex, TileStream
from pathtrain.methods.task_scorer import TaskScorer
from pathtrain.metrics import auroc, balanced_accuracy
from pathtrain.recipes.hierarchical import HierarchicalRecipe
from pathtrain.recipes.load import load
from pathtrain.runs.hierarchical import open_run, quiet_stage
from pathtrain.stain.stage import Stage, stage

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Predictions = list[Floats]  # per task (S, C), of all test slides

RECIPE = "exaonepath2-tiny"
END_TO_END, FROZEN, CURRICULUM = "end to end", "frozen stage 1", "whole curriculum"
STORED, NORMALISED = "colour as stored", "colour normalised"
MEAN = "mean over tasks"
ROUNDS = 2000  # of the bootstrap
SCORES: dict[str, Callable[[Floats, Ints], float | None]] = {
    "auroc": auroc,
    "balanced_accuracy": balanced_accuracy,
}


def overrides(case: str, seed: int, steps: int | None) -> list[str]:
    """What a case changes in the recipe, as --set takes it."""
    phases = [phase.model_dump(mode="json") for phase in recipe().hierarchy.phases]
    if case != CURRICULUM:
        phases = [{**phases[-1], "tile": None, "region": None}]
        phases[0]["slide"]["stage1"] = "trained" if case == END_TO_END else "frozen"
    if steps is not None:
        phases = [{**phase, "steps": min(steps, phase["steps"])} for phase in phases]
    return [f"seed={seed}", f"hierarchy.phases={json.dumps(phases)}"]


def recipe() -> HierarchicalRecipe:
    """The study's."""
    found = load(RECIPE)
    assert isinstance(found, HierarchicalRecipe)
    return found


def predictions(case: str, seed: int, wanted: SlideLabels, options: argparse.Namespace) -> dict[str, Any]:
    """Train, or finish, one run; its probabilities for each test slide, and the seconds of training."""
    run = options.runs / f"{case.replace(' ', '-')}-{seed}"
    result = run / "test.json"
    if not result.exists():
        changed = [part for text in overrides(case, seed, options.steps) for part in ("--set", text)]
        words = ["pretrain", options.train, "--recipe", RECIPE, "--out", run, *changed]
        command = [sys.executable, "-m", "pathtrain", *words, "--labels", options.train_labels]
        start = time.perf_counter()
        subprocess.run([*map(str, command)], check=True)
        seconds = round(time.perf_counter() - start, 1)
        method, made = open_run(run, torch.device("cpu"))
        data = Dataset(options.test)
        scorer = TaskScorer(method, SlideIndex(data), wanted, quiet_stage(data, made, run))
        per_slide = list(scorer.probabilities(np.arange(len(wanted.slides))))
        found = [np.stack(task).tolist() for task in zip(*per_slide, strict=True)]
        atomic.write_json(result, {"seconds": seconds, "slides": wanted.slides, "probabilities": found})
    said: dict[str, Any] = json.loads(result.read_bytes())
    if said["slides"] != list(wanted.slides):
        raise SystemExit(f"{result}: is of other test slides; remove it, or give another --runs")
    return said


def colours(root: Path, labels: SlideLabels, normalised: bool) -> Floats:
    """(S, 6) mean and SD of red, green and blue of each slide's tiles, 0 to 1."""
    index = SlideIndex(Dataset(root))
    layouts = [index.slide(name, 2) for name in labels.slides]

    def requests() -> Iterator[Request]:
        for layout in layouts:
            yield Request.of([layout], np.zeros(1, np.int64))

    side = int(index.tiles.columns["stored"][0])
    made = recipe()
    work: Stage | None = None
    if normalised:
        work = stage([index.dataset], made.stain, made.seed, index.source.fits, jitter=False)
    found = []
    for tiles in TileStream(index, requests, side, work):
        pixels = tiles[:-1].numpy().reshape(-1, 3) / 255.0
        found.append(np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)]))
    return np.stack(found)


def baseline(train_x: Floats, known: SlideLabels, test_x: Floats, wanted: SlideLabels) -> Predictions:
    """Logistic regression on the slides' colours, per task."""
    found = []
    for task in wanted.tasks:
        y = known.values[:, [t.name for t in known.tasks].index(task.name)]
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
        found.append(model.fit(train_x[y != UNKNOWN], y[y != UNKNOWN]).predict_proba(test_x))
    return found


def scores(given: Predictions, wanted: SlideLabels, score: str, rows: Ints) -> dict[str, float]:
    """Per task, and their mean, on some of the test slides (a slide may be there several times)."""
    found = {}
    for number, task in enumerate(wanted.tasks):
        labels = wanted.values[rows, number]
        there = labels != UNKNOWN
        value = SCORES[score](given[number][rows][there], labels[there])
        assert value is not None, "each combination of labels stays when slides are drawn"
        found[task.name] = value
    return {**found, MEAN: float(np.mean(list(found.values())))}


def drawn(wanted: SlideLabels, rng: np.random.Generator) -> Ints:
    """(S,) test slides with replacement, as many of each combination of labels as there are."""
    _, kind = np.unique(wanted.values, axis=0, return_inverse=True)
    groups = [np.flatnonzero(kind.reshape(-1) == k) for k in range(int(kind.max()) + 1)]
    return np.concatenate([rng.choice(group, len(group)) for group in groups])


def summary(results: dict[str, list[Predictions]], wanted: SlideLabels) -> dict[str, Any]:
    """Per score and task: each case's values by seed."""
    everything = np.arange(len(wanted.slides))
    found: dict[str, Any] = {}
    for score in SCORES:
        cases = {
            case: [scores(given, wanted, score, everything) for given in runs]
            for case, runs in results.items()
        }
        tasks = next(iter(cases.values()))[0]
        found[score] = {
            task: {case: [run[task] for run in runs] for case, runs in cases.items()} for task in tasks
        }
    return found


def differences(results: dict[str, list[Predictions]], wanted: SlideLabels, rounds: int) -> dict[str, Any]:
    """End to end minus each other case in AUROC, per task: by seed, and the mean with its interval."""
    rng = np.random.default_rng(0)
    samples = [np.arange(len(wanted.slides)), *(drawn(wanted, rng) for _ in range(rounds))]
    by_case = {
        case: [[scores(p, wanted, "auroc", rows) for rows in samples] for p in runs]
        for case, runs in results.items()
    }
    found: dict[str, Any] = {}
    own = by_case[END_TO_END]
    for case, runs in by_case.items():
        if case == END_TO_END:
            continue
        fixed = case in (STORED, NORMALISED)  # each seed is compared with the one there is
        pairs = list(zip(own, runs * len(own) if fixed else runs, strict=False))
        found[case] = {}
        for task in own[0][0]:
            gaps = np.array([[a[task] - b[task] for a, b in zip(x, y, strict=True)] for x, y in pairs])
            ends = np.percentile(gaps[:, 1:].mean(axis=0), [2.5, 97.5])
            found[case][task] = {
                "seeds": gaps[:, 0].tolist(),
                "mean": float(gaps[:, 0].mean()),
                "interval": [float(end) for end in ends],
            }
    return found


def markdown(said: dict[str, Any]) -> str:
    """The results as tables, and in words what they show and what they do not."""
    cases = list(said["scores"]["auroc"][MEAN])
    lines = ["# Slide labels through all three stages, or with stage 1 frozen", ""]
    for score, tasks in said["scores"].items():
        lines += [f"## {score.replace('_', ' ')}, test slides: mean over seeds [smallest, largest]", ""]
        lines += [f"| task | slides | {' | '.join(cases)} |", "| --- | --- |" + " --- |" * len(cases)]
        for task, row in tasks.items():
            count = said["slides"].get(task, "")
            lines.append(f"| {task} | {count} | {' | '.join(_cell(row[case]) for case in cases)} |")
        lines.append("")
    lines += [
        "## AUROC, end to end minus: mean over seeds [95 % bootstrap over slides], seeds above / below 0",
        "",
        f"| task | {' | '.join(said['differences'])} |",
        "| --- |" + " --- |" * len(said["differences"]),
    ]
    for task in said["scores"]["auroc"]:
        lines.append(f"| {task} | {' | '.join(_gap(row[task]) for row in said['differences'].values())} |")
    lines += ["", *verdict(said["differences"]), ""]
    times = {case: f"{np.mean(values):.0f}" for case, values in said["seconds"].items()}
    lines += [
        f"Recipe {RECIPE}, {said['seeds']} seeds. Mean seconds of a training on this machine, which did "
        f"other work too: {', '.join(f'{case} {value}' for case, value in times.items())}. The recipe's "
        "values were chosen on the training slides alone (25 to train, 15 to look at), none on the test "
        "slides; that an earlier version of it fell short was seen on them. They are few: one slide moves "
        "an AUROC by some hundredths, and intervals are wide.",
        "",
    ]
    return "\n".join(lines)


def verdict(found: dict[str, Any]) -> list[str]:
    """A line for each case, of what end to end beats, ties and loses in the mean over seeds."""
    lines = []
    for case, tasks in found.items():
        groups: dict[str, list[str]] = {"above": [], "equal to": [], "below": []}
        for task, row in tasks.items():
            low, high = row["interval"]
            sure = "" if low <= 0 <= high else " (beyond the interval)"
            kind = "equal to" if abs(row["mean"]) < 5e-4 else "above" if row["mean"] > 0 else "below"
            groups[kind].append(f"{task}{sure if kind != 'equal to' else ''}")
        said = [f"{kind} it in {', '.join(names)}" for kind, names in groups.items() if names]
        lines.append(f"- End to end against {case}: {'; '.join(said)}.")
    return lines


def _cell(values: list[float]) -> str:
    ends = f" [{min(values):.3f}, {max(values):.3f}]" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{ends}"


def _gap(row: dict[str, Any]) -> str:
    above, below = (sum(sign * gap > 5e-4 for gap in row["seeds"]) for sign in (1, -1))
    return "{:+.3f} [{:+.3f}, {:+.3f}], {} / {}".format(row["mean"], *row["interval"], above, below)


def names(dataset: Path) -> set[str]:
    """Its slides with at least one tile."""
    return {name for name, count in Dataset(dataset).tile_counts().items() if count}


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--train-labels", type=Path, required=True)
    parser.add_argument("--test-labels", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--curriculum-seeds", type=int, default=1, help="of the whole curriculum")
    parser.add_argument("--steps", type=int, help="at most so many of each phase, for a quick look")
    parser.add_argument("--runs", type=Path, default=Path("cohort-runs"), help="where the runs are kept")
    add_json(parser)
    options = parser.parse_args()
    known = read(options.train_labels, names(options.train))
    wanted = read_for(options.test_labels, names(options.test), known.tasks)
    results: dict[str, list[Predictions]] = {}
    seconds: dict[str, list[float]] = {}
    plan = [(case, seed) for seed in range(options.seeds) for case in (END_TO_END, FROZEN)]
    plan += [(CURRICULUM, seed) for seed in range(options.curriculum_seeds)]
    for case, seed in plan:
        found = predictions(case, seed, wanted, options)
        results.setdefault(case, []).append([np.array(task) for task in found["probabilities"]])
        seconds.setdefault(case, []).append(found["seconds"])
    for case, normalised in ((STORED, False), (NORMALISED, True)):
        x, y = (
            colours(root, labels, normalised)
            for root, labels in ((options.train, known), (options.test, wanted))
        )
        results[case] = [baseline(x, known, y, wanted)]
    said = {
        "recipe": recipe().model_dump(mode="json"),
        "seeds": options.seeds,
        "steps": options.steps,
        "seconds": seconds,
        "slides": {
            task.name: int((wanted.values[:, n] != UNKNOWN).sum()) for n, task in enumerate(wanted.tasks)
        },
        "scores": summary(results, wanted),
        "differences": differences(results, wanted, ROUNDS),
    }
    text = markdown(said)
    print(text)
    save(options.json, "cohort-study", said)
    if options.json == Path():
        beside = Path(__file__).parents[1] / "results" / f"cohort-study-{tag(describe())}.md"
        beside.write_text(text)


if __name__ == "__main__":
    main()
