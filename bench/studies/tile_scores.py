"""Encoders scored on the test tiles of EBHI and LC25000, beside colour: what the studies of recipes share.

The tiles are those of --data, without those of LC25000 that have near-duplicates on the other side. They are
scored as they are, and equalised, which is grey with every tile's grey levels replaced by their ranks, so
that every tile has one histogram and its colour says nothing; by DINO's kNN vote (k 20), and by logistic
regression on standardised features. Balanced accuracy; intervals are over the groups of the test set.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathprep.storage import atomic
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.tile_level.knn import vote
from pathtrain.features.encode import encode
from pathtrain.params.encoding import How
from pathtrain.runs.model import LoadedModel

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

HERE = Path(__file__).parents[2]
SETS = ("ebhi", "lc25000")
KINDS = ("plain", "equalised")
# groups of LC25000 that hold near-duplicates of groups on the other side
TWINS = {"lung_n-228", "lung_n-177", "colon_n-223", "colon_n-208"}
RANDOM, COLOUR, PATTERNS = "random weights", "colour", "colour and patterns"
BASELINES = (RANDOM, COLOUR, PATTERNS)
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


def prepare(data: Path, work: Path, sets: Sequence[str] = SETS, kinds: Sequence[str] = KINDS) -> None:
    """The tile sets as folders, plain and equalised, and their training tiles imported."""
    for name in sets:
        for side in ("train", "test"):
            for kind in kinds:
                folder = work / "tiles" / name / side / kind
                if not folder.exists():
                    _copy(list(rows(data, name, side)), folder, kind)
        source = work / "tiles" / name / "train" / "plain"
        command(HERE, "pathprep", "import-tiles", source, "--out", work / "sets" / name)


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


def sides(work: Path, name: str, kind: str) -> list[Path]:
    """The folders of training and test tiles of a set: pictures, for of an equalised tile's JPEG the SD would
    tell its texture."""
    return [work / "tiles" / name / side / kind for side in ("train", "test")]


def blank_scores(work: Path, name: str, kind: str) -> Scored:
    """Nothing scored yet."""
    plain = [open_tiles(side) for side in sides(work, name, kind)]
    return Scored([list(tiles.labels or ()) for tiles in plain], plain[1].group)


def features(
    models: list[LoadedModel], where: list[Path], how: How, lbp: bool = False
) -> Iterator[tuple[list[Floats], Floats | None]]:
    """Of both sides: each model's features, and colour's."""
    for side in where:
        tiles = open_tiles(side, models[0].target if not lbp else None)
        found = encode(models, tiles, np.arange(len(tiles)), how, lbp=lbp)
        yield found[0], found[1]


def add_baselines(scores: Scored, blank: list[LoadedModel], where: list[Path]) -> None:
    """Random weights, a model a seed; mean and SD of colour; and these with local binary patterns."""
    known, test = features(blank, where, How())
    for x, x_test in zip(known[0], test[0], strict=True):
        scores.add(RANDOM, x, x_test)
    known, test = features(blank[:1], where, How(size=SIDE), lbp=True)
    for case, part in ((COLOUR, slice(6)), (PATTERNS, slice(None))):
        x, x_test = known[1][:, part], test[1][:, part]  # type: ignore[index]
        mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        scores.add(case, (x - mean) / sd, (x_test - mean) / sd)


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


def gap(found: dict[str, Any] | None) -> str:
    return "" if found is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(found["value"], *found["interval"])
