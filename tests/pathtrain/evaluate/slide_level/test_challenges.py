"""Camelyon16 and PANDA as they are handed out: labels and parts, against eva's way of drawing them."""

import re
from pathlib import Path

import numpy as np
import pytest

from pathprep.errors import UsageError
from pathtrain.evaluate.slide_level.challenges import CAMELYON_VAL, SHARES, camelyon16, panda
from pathtrain.evaluate.slide_level.tasks import Task, read_tasks


def test_camelyon16(tmp_path: Path) -> None:
    tumor, normal = "Tumor,IDC,Macro", "Normal,None,None"
    reference = f"test_001,{tumor}\ntest_002,{tumor}\ntest_003,{normal}\ntest_004,{normal}\n"
    (tmp_path / "reference.csv").write_text(reference)
    known = {
        "normal_001",
        "normal_010",
        "tumor_001",
        "tumor_002",
        "Tumor_003",
        "mask_001",
        *(f"test_00{n}" for n in range(1, 5)),
    }
    (task,) = read_tasks([tmp_path], "camelyon16-small", known)
    assert isinstance(task, Task)
    assert task.classes == ["normal", "tumor"]
    found = {
        slide: (task.classes[label], part)
        for slide, label, part in zip(task.slides, task.labels, task.parts or [], strict=True)
    }
    assert found == {
        "normal_001": ("normal", "train"), "normal_010": ("normal", "val"), "tumor_001": ("tumor", "val"),
        "tumor_002": ("tumor", "train"), "Tumor_003": ("tumor", "train"), "test_001": ("tumor", "test"),
        "test_002": ("tumor", "test"), "test_003": ("normal", "test"), "test_004": ("normal", "test"),
    }  # fmt: skip
    with pytest.raises(UsageError, match="slide test_004 has no features"):
        read_tasks([tmp_path], "camelyon16-small", known - {"test_004"})


def test_eva_validates_with_54_slides() -> None:
    assert len(CAMELYON_VAL) == 54
    assert sum(name.startswith("tumor") for name in CAMELYON_VAL) == 22


@pytest.mark.parametrize(
    ("text", "error"),
    [("slide,label\nx,1\n", "no line of a test slide"), ("test_001,Benign\n", "test_001 is 'Benign'")],
)
def test_other_tables_than_camelyons(text: str, error: str, tmp_path: Path) -> None:
    lines = [line.split(",") for line in text.splitlines()]
    with pytest.raises(UsageError, match=error):
        camelyon16(lines, tmp_path / "reference.csv", set())


def rows(count: int = 400) -> list[list[str]]:
    rng = np.random.default_rng(3)
    header = ["image_id", "data_provider", "isup_grade", "gleason_score", "noise_ratio_10"]
    grades = rng.integers(0, 6, count)
    names = [f"{value:032x}" for value in rng.permutation(10**6)[:count]]
    noisy = rng.random(count) < 0.1
    return [header] + [
        [name, ("karolinska", "radboud")[n % 2], str(grade), "0+0", str(int(bad))]
        for n, (name, grade, bad) in enumerate(zip(names, grades, noisy, strict=True))
    ]


def test_panda_is_drawn_as_eva_draws_it() -> None:
    """eva: file names in their order without the noisy ones; of each grade shuffled rows, 10, 5 and 5 %."""
    table = rows()
    found = {name: (grade, part) for name, grade, part in panda(table, Path("train.csv"))}
    clean = sorted([line[0], int(line[2])] for line in table[1:] if line[4] == "0")
    rng, expected = np.random.default_rng(42), {}
    for grade in range(6):
        members = np.where(np.array([g for _, g in clean]) == grade)[0]
        rng.shuffle(members)
        train, val = int(np.floor(0.1 * len(members))) or 1, int(np.floor(0.05 * len(members))) or 1
        for part, own in (
            ("train", members[:train]), ("val", members[train : train + val]),
            ("test", members[train + val : train + 2 * val]),
        ):  # fmt: skip
            expected |= {clean[row][0]: (str(grade), part) for row in own}
    assert found == expected
    assert dict(SHARES) == {"train": 0.1, "val": 0.05, "test": 0.05}


def test_panda_by_its_name(tmp_path: Path) -> None:
    table = rows()
    (tmp_path / "train.csv").write_text("\n".join(",".join(line) for line in table) + "\n")
    wanted = [name for name, _, _ in panda(table, Path("train.csv"))]
    (task,) = read_tasks([tmp_path], "panda-small", set(wanted))
    assert isinstance(task, Task)
    assert (task.classes, sorted(task.slides)) == (list("012345"), sorted(wanted))
    plain = [line[:4] for line in table]
    with pytest.raises(UsageError, match=re.escape("train.csv: no column noise_ratio_10; PANDA small needs")):
        panda(plain, Path("train.csv"))


@pytest.mark.parametrize("row", ["a,x,0", "a,,0", "a,1,often"])
def test_grades_of_panda_are_numbers(row: str, tmp_path: Path) -> None:
    lines = [line.split(",") for line in ("image_id,isup_grade,noise_ratio_10", row)]
    with pytest.raises(UsageError, match="train.csv, line 2: isup_grade is"):
        panda(lines, tmp_path / "train.csv")
