"""The labelled tiles of the study, by side; and the tiles that encoders may be trained on.

    fit, validation   parts of the training groups, by group: what choices are made on
    train             both
    test              groups that nobody looks at until the choice is written down (choice.json)

Sets are EBHI (6 classes of colorectal tissue, 224 px, groups are patients), LC25000 (5 classes, 224 px,
groups are originals with their augmentations, those with near-duplicates on the other side left out) and
AMi-Br's mitotic figures (2 classes, 128 px, groups are cases, 5 scanners).
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep.errors import PathprepError
from pathprep.storage import atomic
from small.core.config import Study

Side = Literal["fit", "validation", "train", "test"]
Kind = Literal["plain", "equalised"]
SETS = ("ebhi", "lc25000", "mitoses")
# groups of LC25000 that hold near-duplicates of groups on the other side
TWINS = {"lung_n-228", "lung_n-177", "colon_n-223", "colon_n-208"}
CHOICE = "choice.json"
VALIDATES = 4  # one in so many training groups


class TestGroups(PathprepError):
    """A test group was asked for before the choice was made."""

    __test__ = False  # it is no class of tests, whatever its name begins with


@dataclass(frozen=True)
class Row:
    """A labelled tile.

    Attributes:
        path: its file.
        label, group: class, and what is never divided between sides.
        test: whether its group is held out.
        more: further columns, such as the scanner.
    """

    path: Path
    label: str
    group: str
    test: bool
    more: dict[str, str] = field(default_factory=dict)

    @property
    def validates(self) -> bool:
        """Whether its group, of the training side, is one that choices are made on."""
        return not self.test and int(hashlib.sha256(self.group.encode()).hexdigest(), 16) % VALIDATES == 0

    def on(self, side: Side) -> bool:
        """Whether it belongs to a side."""
        if side == "test" or self.test:
            return self.test and side == "test"
        return side == "train" or self.validates == (side == "validation")


def rows(data: Path, name: str) -> Iterator[Row]:
    """All labelled tiles of a set, in the order of its tables."""
    if name == "lc25000":
        for side in ("train", "test"):
            where = data / "tiles" / side
            for row in table_of(where / "labels.csv"):
                if row["group"] not in TWINS:
                    yield Row(where / row["file"], row["label"], row["group"], side == "test")
        return
    for row in table_of(data / name / "labels.csv"):
        more = {"scanner": row["scanner"]} if name == "mitoses" else {}
        yield Row(data / name / row["file"], row["label"], row["group"], row["split"] == "test", more)


def table_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def chosen(study: Study) -> bool:
    """Whether the choice is made, after which test groups may be looked at."""
    return (study.work / CHOICE).is_file()


def check_side(study: Study, side: Side) -> None:
    """Refuse test groups while choosing.

    Raises:
        TestGroups: they are asked for, and nothing is chosen yet.
    """
    if side == "test" and not chosen(study):
        raise TestGroups(
            f"{study.work}: test groups are not looked at while the recipe is being chosen: {CHOICE} is not "
            "there; run the part `choice` first"
        )


def folder(study: Study, name: str, side: Side, kind: Kind = "plain") -> Path:
    """A folder of labelled tiles, made once: images, and labels.csv with file, label, group and further
    columns.

    Args:
        name: one of SETS.

    Raises:
        TestGroups: the test side before the choice is made.
    """
    assert side in get_args(Side)
    check_side(study, side)
    where = study.work / "tiles" / name / kind / side
    if not where.exists():
        write(where, few([row for row in rows(study.data, name) if row.on(side)], study.common.tiles), kind)
    return where


def few(found: list[Row], most: int | None) -> list[Row]:
    """The first ``most`` tiles of each group and label; None: all."""
    if most is None:
        return found
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in found:
        seen[row.group, row.label] += 1
        if seen[row.group, row.label] <= most:
            kept.append(row)
    return kept


def write(where: Path, found: list[Row], kind: Kind) -> None:
    """Tiles and their table into a folder that is there whole or not at all."""
    half = where.with_name(f"{where.name}.half")
    half.mkdir(parents=True, exist_ok=True)
    names = list(found[0].more) if found else []
    lines = [",".join(["file", "label", "group", *names])]
    for number, row in enumerate(found):
        # an equalised tile stays a picture: as JPEG the SD of its noise would tell its texture
        file = f"{number:05d}{row.path.suffix if kind == 'plain' else '.png'}"
        if kind == "plain":
            atomic.write_bytes(half / file, row.path.read_bytes())
        else:
            grey = equalised(np.asarray(Image.open(row.path).convert("RGB")))
            Image.fromarray(grey).convert("RGB").save(half / file)
        lines.append(",".join([file, row.label, row.group, *(row.more[key] for key in names)]))
    atomic.write_bytes(half / "labels.csv", ("\n".join(lines) + "\n").encode())
    half.rename(where)


def equalised(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A tile (H, W, 3) in grey, every level replaced by its rank: (H, W) with one histogram for all tiles."""
    grey = pixels.astype(np.float64) @ (0.299, 0.587, 0.114)
    # equal levels follow their place in the picture shuffled, so that flat areas draw no ramp
    ties = np.random.default_rng(0).permutation(grey.size)
    order = np.lexsort((ties, grey.ravel()))
    ranks = np.empty(grey.size, np.int64)
    ranks[order] = np.arange(grey.size)
    return (ranks * 256 // grey.size).astype(np.uint8).reshape(grey.shape)
