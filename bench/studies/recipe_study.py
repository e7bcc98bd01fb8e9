"""What a change of code or recipe does to the encoder: the same recipe by two checkouts, over seeds.

    python bench/studies/recipe_study.py --data ../shared/data --before CHECKOUT [--work FOLDER] [--json]

By CHECKOUT and by this one, with the same seeds:

    smoke             DINO on the training tiles of EBHI, and of LC25000
    exaonepath2-tiny  all three stages on the training slides of the cohort (composed of LC25000 tiles)

Each encoder is frozen and scored on the test tiles of EBHI (6 classes, split by patient) and LC25000 (5
classes, split by group; pairs of groups that hold near-duplicates are left out), by DINO's kNN vote (k 20)
and by logistic regression on standardised features: on the tiles as they are, and equalised, which is grey
with every tile's grey levels replaced by their ranks, so that every tile has one histogram and its colour
says nothing. Beside them random weights (as many seeds), mean and SD of colour, and colour with local binary
patterns.

Balanced accuracy. Differences are paired by seed and tile; their intervals are over the groups of the test
set, of the mean over seeds. What is finished in --work is not made again.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # bench/machine.py

from machine import add_json, describe, save, tag

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.storage import atomic
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.statistics import figures
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.features.encode import encode
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel, load, untrained

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

HERE = Path(__file__).parents[2]
SMOKE, TINY = "smoke", "exaonepath2-tiny"
SETS = ("ebhi", "lc25000")
KINDS = ("plain", "equalised")
# groups of LC25000 that hold near-duplicates of groups on the other side
TWINS = {"lung_n-228", "lung_n-177", "colon_n-223", "colon_n-208"}
BEFORE, AFTER = "before", "after"
RANDOM, COLOUR, PATTERNS = "random weights", "colour", "colour and patterns"
BASELINES = (RANDOM, COLOUR, PATTERNS)
HEAD = (
    "scored by",
    "encoder",
    "mean [smallest, largest seed]",
    "minus before",
    *(f"minus {name}" for name in BASELINES),
)
FIRST_SEED = 1000  # of random weights: none is the start of a run
K = 20
SIDE = 224  # pixels, of the tiles of both sets


def rows(data: Path, name: str, side: str) -> Iterator[tuple[Path, str, str]]:
    """File, label and group of the tiles of one side, ``train`` or ``test``."""
    folder = data / "ebhi" if name == "ebhi" else data / "tiles" / side
    with (folder / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            if row.get("split", side) == side and row["group"] not in TWINS:
                yield folder / row["file"], row["label"], row["group"]


def equalised(path: Path) -> npt.NDArray[np.uint8]:
    """A tile in grey, every grey level replaced by its rank: (H, W) with one histogram for all tiles."""
    grey = np.asarray(Image.open(path).convert("RGB"), np.float64) @ (0.299, 0.587, 0.114)
    # equal levels follow their place in the picture shuffled, so that flat areas draw no ramp
    ties = np.random.default_rng(0).permutation(grey.size)
    order = np.lexsort((ties, grey.ravel()))
    ranks = np.empty(grey.size, np.int64)
    ranks[order] = np.arange(grey.size)
    return (ranks * 256 // grey.size).astype(np.uint8).reshape(grey.shape)


def prepare(data: Path, work: Path) -> None:
    """The tile sets, their training tiles imported, and the cohort's training slides."""
    for name in SETS:
        for side in ("train", "test"):
            for kind in KINDS:
                folder = work / "tiles" / name / side / kind
                if not folder.exists():
                    _copy(list(rows(data, name, side)), folder, kind)
        source = work / "tiles" / name / "train" / "plain"
        command(HERE, "pathprep", "import-tiles", source, "--out", work / "sets" / name)
    command(HERE, "pathprep", "shard", *_slides(data), "--out", work / "cohort", "--stain", "fit")


def _slides(data: Path) -> list[Path]:
    with (data / "cohort" / "labels-train.csv").open() as file:
        return [data / "cohort" / f"{row['slide_id']}.tif" for row in csv.DictReader(file)]


def _copy(found: list[tuple[Path, str, str]], folder: Path, kind: str) -> None:
    half = folder.with_name(f"{folder.name}.half")
    half.mkdir(parents=True, exist_ok=True)
    lines = ["file,label,group"]
    for number, (path, label, group) in enumerate(found):
        name = f"{number:05d}{path.suffix if kind == 'plain' else '.png'}"
        if kind == "plain":
            atomic.write_bytes(half / name, path.read_bytes())
        else:
            Image.fromarray(equalised(path)).convert("RGB").save(half / name)
        lines.append(f"{name},{label},{group}")
    atomic.write_bytes(half / "labels.csv", ("\n".join(lines) + "\n").encode())
    half.rename(folder)


def command(tree: Path, package: str, *arguments: object) -> None:
    """One of the commands, by a checkout's code."""
    words = [sys.executable, "-m", package, *map(str, arguments)]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(tree)})


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


def _nearest(x: Floats, y: Ints, x_test: Floats) -> Ints:
    return vote(x, y, x_test, K, int(y.max()) + 1)


def _linear(x: Floats, y: Ints, x_test: Floats) -> Ints:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
    found: Ints = model.fit(x, y).predict(x_test)
    return found


WAYS: dict[str, Callable[[Floats, Ints, Floats], Ints]] = {"kNN": _nearest, "linear": _linear}


class Scored:
    """Which tiles of a test set each encoder gets right, by way of scoring and seed.

    Args:
        labels: of the training tiles, and of the test tiles.
        group: (M,) of the test tiles.
    """

    def __init__(self, labels: list[list[str]], group: Ints) -> None:
        codes = {label: code for code, label in enumerate(sorted(set(labels[0])))}
        self._known, self.classes = (np.array([codes[label] for label in side]) for side in labels)
        self.group = np.unique(group, return_inverse=True)[1]
        self.hits: dict[str, dict[str, list[npt.NDArray[np.bool_]]]] = {way: {} for way in WAYS}

    def add(self, case: str, x: Floats, x_test: Floats) -> None:
        """Score one encoder's features."""
        for way, guess in WAYS.items():
            right = guess(x, self._known, x_test) == self.classes
            self.hits[way].setdefault(case, []).append(right)


def scored(options: argparse.Namespace, name: str, kind: str) -> Scored:
    """All encoders on one test set."""
    # the pictures themselves: of an equalised tile's JPEG, the SD would tell its texture
    sides = [options.work / "tiles" / name / side / kind for side in ("train", "test")]
    plain = [open_tiles(side) for side in sides]
    found = Scored([list(tiles.labels or ()) for tiles in plain], plain[1].group)
    blank: list[LoadedModel] = []
    for what, when, _, run in runs(options):
        model = load(run)
        known, test = (encode([model], t, np.arange(len(t)), How()) for t in _opened(sides, model.target))
        found.add(f"{what}, {when}", known[0][0], test[0][0])
        if not blank and what.startswith(SMOKE):
            blank = [untrained(model, FIRST_SEED + seed) for seed in range(options.seeds)]
    known, test = (encode(blank, t, np.arange(len(t)), How()) for t in _opened(sides, blank[0].target))
    for x, x_test in zip(known[0], test[0], strict=True):
        found.add(RANDOM, x, x_test)
    # in full, for the same reason
    full = How(size=SIDE)
    known, test = (encode(blank[:1], t, np.arange(len(t)), full, lbp=True) for t in _opened(sides, None))
    for case, part in ((COLOUR, slice(6)), (PATTERNS, slice(None))):
        x, x_test = known[1][:, part], test[1][:, part]
        mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        found.add(case, (x - mean) / sd, (x_test - mean) / sd)
    return found


def _opened(sides: list[Path], target: Any) -> Iterator[Any]:
    return (open_tiles(side, target) for side in sides)


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


def balanced(
    shares: Mapping[Any, npt.NDArray[np.float64]], found: Scored, copies: npt.NDArray[np.float64]
) -> dict[Any, npt.NDArray[np.float64]]:
    """Mean recall (R,) of what each is right in, in samples of groups.

    Args:
        shares: (M,) of the tiles each: how far a tile was got right, or a difference of that.
        found: classes and groups of the tiles.
        copies: (R, G) how often each group is in a sample.
    """
    shape = (copies.shape[1], int(found.classes.max()) + 1)
    total = np.zeros(shape)
    np.add.at(total, (found.group, found.classes), 1)
    counts = copies @ total
    figured = {}
    for name, right in shares.items():
        hits = np.zeros(shape)
        np.add.at(hits, (found.group, found.classes), right)
        recalls = np.divide(copies @ hits, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
        figured[name] = np.nanmean(recalls, axis=1)
    return figured


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
            lines.append(f"| {row['way']} | {case} | {value} | {' | '.join(map(_gap, gaps))} |")
        lines.append("")
    lines += [
        f"{seeds} seeds. Differences: of the mean over seeds, paired by tile, with 95 % intervals over the "
        "groups of the test set.",
        "",
    ]
    return "\n".join(lines)


def _gap(found: dict[str, Any] | None) -> str:
    return "" if found is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(found["value"], *found["interval"])


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
