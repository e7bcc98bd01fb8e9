"""What a change of code or recipe does to the encoder: the same recipe by two checkouts, over seeds.

    python bench/studies/recipe_study.py --data ../shared/data --before CHECKOUT [--work FOLDER] [--json]

By CHECKOUT and by this one, with the same seeds:

    smoke             DINO on the training tiles of EBHI, and of LC25000
    exaonepath2-tiny  all three stages on the training slides of the cohort (composed of LC25000 tiles)

Each encoder is frozen and scored on the test tiles of EBHI (6 classes, split by patient) and LC25000 (5
classes, split by group), as tile_scores.py says. Beside them random weights (as many seeds), mean and SD of
colour, and colour with local binary patterns.

Balanced accuracy. Differences are paired by seed and tile; their intervals are over the groups of the test
set, of the mean over seeds. What is finished in --work is not made again.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # bench/machine.py

from machine import add_json, describe, save, tag

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
import tile_scores
from tile_scores import (
    BASELINES,
    HERE,
    KINDS,
    SETS,
    Scored,
    add_baselines,
    balanced,
    blank_scores,
    command,
    features,
    gap,
    sides,
)

from pathtrain.evaluate.statistics import figures
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load
from pathtrain.runs.variants import untrained

SMOKE, TINY = "smoke", "exaonepath2-tiny"
BEFORE, AFTER = "before", "after"
HEAD = (
    "scored by",
    "encoder",
    "mean [smallest, largest seed]",
    "minus before",
    *(f"minus {name}" for name in BASELINES),
)
FIRST_SEED = 1000  # of random weights: none is the start of a run


def prepare(data: Path, work: Path) -> None:
    """The tile sets, their training tiles imported, and the cohort's training slides."""
    tile_scores.prepare(data, work)
    command(HERE, "pathprep", "shard", *_slides(data), "--out", work / "cohort", "--stain", "fit")


def _slides(data: Path) -> list[Path]:
    with (data / "cohort" / "labels-train.csv").open() as file:
        return [data / "cohort" / f"{row['slide_id']}.tif" for row in csv.DictReader(file)]


def runs(options: argparse.Namespace) -> Iterator[tuple[str, str, int, Path]]:
    """Recipe and set that it is trained on, checkout, seed and folder of each run."""
    for seed in range(options.seeds):
        for when in (BEFORE, AFTER):
            for name in SETS:
                yield f"{SMOKE} on {name}", when, seed, options.work / "runs" / f"smoke-{name}-{when}-{seed}"
            if seed < options.tiny_seeds:
                yield f"{TINY} on cohort", when, seed, options.work / "runs" / f"tiny-{when}-{seed}"


def train(options: argparse.Namespace) -> None:
    """Every run that is not finished."""
    trees = {BEFORE: options.before, AFTER: HERE}
    for what, when, seed, run in runs(options):
        if options.only not in (None, when):
            continue
        recipe, _, on = what.partition(" on ")
        labels: tuple[object, ...] = ()
        if recipe == TINY:
            labels = ("--labels", options.data / "cohort" / "labels-train.csv")
        data = options.work / "cohort" if recipe == TINY else options.work / "sets" / on
        sets = ("--set", f"seed={seed}", "--set", "log_every=25")
        command(trees[when], "pathtrain", "pretrain", data, "--recipe", recipe, "--out", run, *labels, *sets)


def scored(options: argparse.Namespace, name: str, kind: str) -> Scored:
    """All encoders on one test set."""
    where, found = sides(options.work, name, kind), blank_scores(options.work, name, kind)
    blank: list[LoadedModel] = []
    for what, when, _, run in runs(options):
        model = load(run)
        known, test = features([model], where, How())
        found.add(f"{what}, {when}", known[0][0], test[0][0])
        if not blank and what.startswith(SMOKE):
            blank = [untrained(model, FIRST_SEED + seed) for seed in range(options.seeds)]
    add_baselines(found, blank, where)
    return found


def summary(tiles: str, found: Scored) -> Iterator[dict[str, Any]]:
    """A row per way and encoder: its values by seed, and paired differences."""
    for way, cases in found.hits.items():
        shares: dict[Any, npt.NDArray[np.float64]] = {}  # of seeds that got a tile right, and differences
        for case, hits in cases.items():
            shares[case] = np.mean(hits, axis=0)
            shares |= {(case, seed): hit.astype(np.float64) for seed, hit in enumerate(hits)}
        for case in [name for name in cases if name.endswith((BEFORE, AFTER))]:
            others = [*BASELINES, case.removesuffix(AFTER) + BEFORE] if case.endswith(AFTER) else BASELINES
            shares |= {(case, other): shares[case] - shares[other] for other in others}
        made = figures(partial(balanced, shares, found), int(found.group.max()) + 1, 0)
        for case, hits in cases.items():
            yield {
                "tiles": tiles,
                "way": way,
                "encoder": case,
                "seeds": [made[case, seed].value for seed in range(len(hits))],
                "mean": made[case].value,
                "interval": made[case].interval,
                "minus": {
                    other: made[case, other]._asdict()
                    for other in (*BASELINES, case.removesuffix(AFTER) + BEFORE)
                    if (case, other) in made
                },
            }


def markdown(rows: list[dict[str, Any]], seeds: int) -> str:
    """The rows as tables."""
    lines = ["# Encoders before and after a change, over seeds", ""]
    for tiles in dict.fromkeys(row["tiles"] for row in rows):
        lines += [f"## {tiles} tiles, balanced accuracy", ""]
        lines += [f"| {' | '.join(HEAD)} |", "| --- " * len(HEAD) + "|"]
        for row in (row for row in rows if row["tiles"] == tiles):
            minus, case = row["minus"], row["encoder"]
            gaps = (minus.get(case.removesuffix(AFTER) + BEFORE), *map(minus.get, BASELINES))
            value = f"{np.mean(row['seeds']):.3f} [{min(row['seeds']):.3f}, {max(row['seeds']):.3f}]"
            lines.append(f"| {row['way']} | {case} | {value} | {' | '.join(map(gap, gaps))} |")
        lines.append("")
    lines += [
        f"{seeds} seeds. Differences: of the mean over seeds, paired by tile, with 95 % intervals over the "
        "groups of the test set.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--work", type=Path, default=Path("recipe-study"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tiny-seeds", type=int, default=3, help=f"of {TINY}")
    parser.add_argument("--only", choices=(BEFORE, AFTER), help="train by this checkout and stop")
    add_json(parser)
    options = parser.parse_args()
    prepare(options.data, options.work)
    train(options)
    if options.only is None:
        rows = [
            row
            for name in SETS
            for kind in KINDS
            for row in summary(f"{name}, {kind}", scored(options, name, kind))
        ]
        text = markdown(rows, options.seeds)
        print(text)
        save(options.json, "recipe-study", {"seeds": options.seeds, "rows": rows})
        if options.json == Path():
            beside = Path(__file__).parents[1] / "results" / f"recipe-study-{tag(describe())}.md"
            beside.write_text(text)


if __name__ == "__main__":
    main()
