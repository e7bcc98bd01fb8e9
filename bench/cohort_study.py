"""Does the gradient from slide labels into stage 1 help? End to end, against the same with stage 1 frozen.

    python bench/cohort_study.py TRAIN TEST --train-labels CSV --test-labels CSV [--seeds 4] [--json [FILE]]

TRAIN and TEST are datasets of `pathprep shard` with stain mode none. For each seed, from the same random
weights and with the recipe's own commands:

    end to end        the recipe exaonepath2-tiny, slide labels through all three stages, and nothing else
    frozen stage 1    the same recipe, steps and weights, but no gradient into stage 1
    whole curriculum  both phases of the recipe: DINO on tiles and regions too

and once, as it has no random part, mean and SD of the slide's red, green and blue with a logistic regression.
AUROC and balanced accuracy on the test slides, as `pathtrain evaluate tasks` gives them: mean over the seeds
with the smallest and largest. A run that is there is gone on with, so that the study can be interrupted.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from machine import add_json, save
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.shards import Dataset
from pathtrain.data.slide_labels import UNKNOWN, SlideLabels, read, read_for
from pathtrain.evaluate.metrics import auroc, balanced_accuracy
from pathtrain.recipes.hierarchy import HierarchicalRecipe
from pathtrain.recipes.load import load

RECIPE = "exaonepath2-tiny"
CASES = ("end to end", "frozen stage 1", "whole curriculum")
COLOUR = "mean and SD of colour"


def overrides(case: str, seed: int, steps: int | None) -> list[str]:
    """What a case changes in the recipe, as --set takes it."""
    recipe = load(RECIPE)
    assert isinstance(recipe, HierarchicalRecipe)
    phases = [phase.model_dump(mode="json") for phase in recipe.hierarchy.phases]
    if case != "whole curriculum":
        phases = [{**phases[-1], "tile": None, "region": None}]
        phases[0]["slide"]["stage1"] = "trained" if case == "end to end" else "frozen"
    if steps is not None:
        phases = [{**phase, "steps": min(steps, phase["steps"])} for phase in phases]
    return [f"seed={seed}", f"hierarchy.phases={json.dumps(phases)}"]


def train(case: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run or finish one run, and score it."""
    run = options.runs / f"{case.replace(' ', '-')}-{seed}"
    result = run / "test.json"
    changed = [part for text in overrides(case, seed, options.steps) for part in ("--set", text)]
    pathtrain = [sys.executable, "-m", "pathtrain"]
    if not result.exists():
        command = [*pathtrain, "pretrain", options.train, "--recipe", RECIPE, "--out", run, *changed]
        subprocess.run([*map(str, command), "--labels", str(options.train_labels)], check=True)
        command = [*pathtrain, "evaluate", "tasks", run, options.test, "--labels", options.test_labels]
        subprocess.run([*map(str, command), "--json", str(result)], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(result.read_bytes())
    return found


def colours(root: Path, labels: SlideLabels) -> npt.NDArray[np.float64]:
    """(S, 6) mean and SD of red, green and blue of each slide's tiles, 0 to 1."""
    dataset = Dataset(root)
    index = dataset.tiles(["offset", "length"])
    found = []
    for slide in labels.slides:
        tiles = [
            dataset.read(slide, int(index.columns["offset"][t]), int(index.columns["length"][t]))
            for t in index.tiles_of(slide)
        ]
        pixels = np.concatenate([simplejpeg.decode_jpeg(tile).reshape(-1, 3) for tile in tiles]) / 255.0
        found.append(np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)]))
    return np.stack(found)


def baseline(train_x: Any, known: SlideLabels, test_x: Any, wanted: SlideLabels) -> dict[str, Any]:
    """Logistic regression on the slides' colours, per task."""
    results = {}
    for number, task in enumerate(wanted.tasks):
        column = [t.name for t in known.tasks].index(task.name)
        y, labels = known.values[:, column], wanted.values[:, number]
        there, asked = y != UNKNOWN, labels != UNKNOWN
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
        found = model.fit(train_x[there], y[there]).predict_proba(test_x[asked])
        results[task.name] = {
            "auroc": auroc(found, labels[asked]),
            "balanced_accuracy": balanced_accuracy(found, labels[asked]),
            "slides": int(asked.sum()),
        }
    return results


def names(dataset: Path) -> set[str]:
    """Its slides with at least one tile."""
    return {name for name, count in Dataset(dataset).tile_counts().items() if count}


def table(results: dict[str, list[dict[str, Any]]]) -> Table:
    """A row per task and score, a column per case."""
    found = Table(title="Test slides: mean over seeds [smallest, largest]")
    for heading in ("task", "score", "slides", *results):
        found.add_column(heading, justify="left" if heading in ("task", "score") else "right")
    for task, first in results[COLOUR][0].items():
        for score in ("auroc", "balanced_accuracy"):
            cells = []
            for runs in results.values():
                values = [run[task][score] for run in runs]
                ends = f" [{min(values):.2f}, {max(values):.2f}]" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.3f}{ends}")
            found.add_row(task, score, str(first["slides"]), *cells)
    return found


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--train-labels", type=Path, required=True)
    parser.add_argument("--test-labels", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, help="at most so many of each phase, for a quick look")
    parser.add_argument("--runs", type=Path, default=Path("cohort-runs"), help="where the runs are kept")
    add_json(parser)
    options = parser.parse_args()
    known = read(options.train_labels, names(options.train))
    wanted = read_for(options.test_labels, names(options.test), known.tasks)
    colour = baseline(colours(options.train, known), known, colours(options.test, wanted), wanted)
    results: dict[str, list[dict[str, Any]]] = {COLOUR: [colour]}
    for seed in range(options.seeds):
        for case in options.cases:
            results.setdefault(case, []).append(train(case, seed, options))
            Console().print(table(results))
    recipe = load(RECIPE).model_dump(mode="json")
    said = {"recipe": recipe, "seeds": options.seeds, "steps": options.steps, "results": results}
    save(options.json, "cohort-study", said)


if __name__ == "__main__":
    main()
