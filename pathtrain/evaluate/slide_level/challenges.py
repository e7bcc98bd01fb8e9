"""The tables of two challenges as they are handed out, with eva's parts (kaiko-ai/eva, Exact).

    camelyon16   testing/reference.csv (no header: test_001,Tumor,...); training slides are told by their
                 names, normal_001 and tumor_001. val: the 54 slides that PatchCamelyon validates with
    panda        train.csv with image_id and isup_grade, and noise_ratio_10 (1 where the label is noisy) as in
                 the table of labels that the winners cleaned. 10 % of each grade for training, 5 % for val,
                 5 % for test, drawn from the names in their order with seed 42

Neither tells patients.
"""

import csv
import io
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np

from pathprep.errors import UsageError, why
from pathprep.slides.own_names import SlideNames
from pathprep.storage import cells, regular
from pathtrain.data.label_table import LabelTable
from pathtrain.evaluate.slide_level.task_file import Challenge
from pathtrain.recipes.text import LARGEST_TEXT, decoded

_NORMAL = (
    *(10, 13, 16, 17, 19, 20, 25, 30, 31, 32, 52, 56, 57, 67, 76, 79, 85, 95, 98, 99, 101, 102, 105, 106),
    *(109, 129, 132, 137, 142, 143, 148, 152),
)
_TUMOR = (1, 5, 11, 12, 13, 19, 31, 37, 43, 46, 57, 65, 69, 71, 73, 79, 80, 81, 82, 85, 97, 109)
CAMELYON_VAL = frozenset(
    [f"normal_{number:03}" for number in _NORMAL] + [f"tumor_{number:03}" for number in _TUMOR]
)
SHARES = (("train", 0.1), ("val", 0.05), ("test", 0.05))  # of PANDA small
SEED = 42


def table(challenge: Challenge, path: Path, known: AbstractSet[str]) -> LabelTable:
    """slide_id, label and split.

    Args:
        challenge: whose.
        path: its table.
        known: slides with features.

    Raises:
        UsageError: it cannot be read, or is not that table.
    """
    try:
        lines = list(csv.reader(io.StringIO(decoded(regular.read(path, LARGEST_TEXT)))))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({why(error)})") from None
    names = SlideNames.of(known)
    rows = camelyon16(lines, path, known) if challenge == "camelyon16" else panda(lines, path)
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    found = dict(zip(("slide_id", "label", "split"), columns, strict=True))
    slides = [names.find(name, str(path)) or name for name in found["slide_id"]]
    places = [f"{path}, {name}" for name in found["slide_id"]]
    labels = {"label": [cells.label(cell) for cell in found["label"]]}
    return LabelTable(str(path), places, "slide_id", slides, [], "split", {}, found, labels, {})


def camelyon16(
    lines: Sequence[Sequence[str]], path: Path, known: AbstractSet[str]
) -> list[tuple[str, str, str]]:
    """Name, ``normal`` or ``tumor``, and part: slides for testing, and the training slides that are known."""
    found = []
    for line in lines:
        if len(line) < 2 or not line[0].startswith("test_"):
            continue
        label = line[1].strip().casefold()
        if label not in ("normal", "tumor"):
            raise UsageError(
                f"{path}: {line[0]} is {line[1]!r}; Camelyon16's reference.csv has Normal and Tumor"
            )
        found.append((line[0].strip().removesuffix(".tif"), label, "test"))
    if not found:
        raise UsageError(f"{path}: no line of a test slide, as test_001,Tumor; give testing/reference.csv")
    for name in sorted(known):
        if match := re.fullmatch(r"(normal|tumor)_\d{3}", name, re.IGNORECASE):
            part = "val" if name.lower() in CAMELYON_VAL else "train"
            found.append((name, match[1].lower(), part))
    return found


def panda(lines: Sequence[Sequence[str]], path: Path) -> list[tuple[str, str, str]]:
    """Name, ISUP grade and part, of the fifth of the slides that PANDA small has."""
    header = [cell.strip() for cell in lines[0]] if lines else []
    absent = [name for name in ("image_id", "isup_grade", "noise_ratio_10") if name not in header]
    if absent:
        raise UsageError(
            f"{path}: no column {absent[0]}; PANDA small needs image_id, isup_grade and noise_ratio_10, as "
            "the train.csv of github.com/analokmaus/kaggle-panda-challenge-public has them"
        )
    image, grade, noise = (header.index(name) for name in ("image_id", "isup_grade", "noise_ratio_10"))
    kept = []
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            continue
        try:
            if float(line[noise] or 0) == 0:
                kept.append((line[image].strip(), str(int(cells.label(line[grade])))))
        except ValueError:
            raise UsageError(
                f"{path}, line {number}: isup_grade is {line[grade]!r} and noise_ratio_10 {line[noise]!r}; "
                "PANDA's are numbers"
            ) from None
    kept.sort()
    rng, found = np.random.default_rng(SEED), []
    grades = np.array([int(one) for _, one in kept], dtype=np.int64)
    for value in np.unique(grades):
        members = np.flatnonzero(grades == value)
        rng.shuffle(members)
        start = 0
        for part, share in SHARES:
            count = int(np.floor(share * len(members))) or 1
            found += [(*kept[row], part) for row in members[start : start + count]]
            start += count
    return found
