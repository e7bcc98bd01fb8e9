"""Thousands of drawn tables of labels: the true classes, or an error that names the file; no traceback."""

import csv
import io
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from pathprep.errors import UsageError
from pathtrain.data import slide_labels
from pathtrain.evaluate.slide_level.tasks import Missing, Task, read_tasks

TABLES = 500  # of each seed
MISSING = (
    "",
    "NA",
    "nan",
    "NaN",
    "None",
    "null",
    "N/A",
    "#N/A",
    "[Not Available]",
    "'--",
    "--",
    "Not Reported",
)
SLIDE = ("slide_id", "Slide ID", "slide", "SlideName", "filename", "file_name", "image", "Image_ID")
PATIENT = ("patient_id", "PatientID", "Patient ID", "case_id", "submitter_id", "bcr_patient_barcode", "group")
CLASSES = (
    ("IDC", "ILC"),
    ("0", "1"),
    ("G1", "G2", "G3"),
    ("+", "-"),
    ("Größe", "a, b"),
    ("yes", "no", 'a "b"'),
)
KNOWN = [f"S-{n:02}" for n in range(24)]


@dataclass(frozen=True)
class Drawn:
    """A table as bytes, and what is true of it: class by slide, and whether the writer made no mistake."""

    data: bytes
    truth: dict[str, str]
    patients: int | None
    damage: str | None


def draw(rng: random.Random) -> Drawn:
    count = rng.randint(8, len(KNOWN))
    slides = rng.sample(KNOWN, count)
    classes = rng.choice(CLASSES)
    labels = [classes[n % len(classes)] for n in range(count)]
    truth = dict(zip(slides, labels, strict=True))
    for slide in rng.sample(slides, rng.randint(0, count - 6)):
        truth[slide] = ""
    if len({*truth.values()} - {""}) < len(classes):  # each must be there
        truth = dict(zip(slides, labels, strict=True))
    missing = rng.sample(MISSING, rng.randint(1, 3))
    columns = {rng.choice(SLIDE): slides, "label": [written(rng, truth[s], missing) for s in slides]}
    patients = None
    if rng.random() < 0.7:
        owners = [f"p{n // 2}" for n in range(count)]
        patients = len({owner for owner, s in zip(owners, slides, strict=True) if truth[s]})
        columns[rng.choice(PATIENT)] = owners
    columns |= rng.choice(
        [{}, {"uuid": [f"u-{s}" for s in slides]}, {"site": ["A"] * count}, {"born": ["2001-02-03"] * count},
         {"age": [str(40 + 1.5 * n) for n in range(count)]}, {"empty": ["NA"] * count}]
    )  # fmt: skip
    names = list(columns)
    rng.shuffle(names)
    rows = [names, *map(list, zip(*(columns[name] for name in names), strict=True))]
    index = rng.choice([None, None, "", "Unnamed: 0", "X", "index", "..."])
    if index is not None:
        rows = [[str(n - 1) if n else index.replace("...", "...1"), *row] for n, row in enumerate(rows)]
    damage = rng.choice([None, None, *DAMAGE])
    return Drawn(encode(rng, rows, damage), truth, patients, damage)


def written(rng: random.Random, label: str, missing: list[str]) -> str:
    cell = label or rng.choice(missing)
    if label in ("0", "1") and rng.random() < 0.5:
        cell = f"{label}.0"
    return f" {cell} " if rng.random() < 0.1 else cell


DAMAGE = ("cut", "twice", "short", "long", "quote", "latin", "zero", "header", "stranger")


def encode(rng: random.Random, rows: list[list[str]], damage: str | None) -> bytes:
    at = rng.randrange(1, len(rows))
    if damage == "twice":
        rows = [*rows, rows[at]]
    elif damage == "short":
        rows = [row[:-1] if n == at else row for n, row in enumerate(rows)]
    elif damage == "long":
        rows = [[*row, "x"] if n == at else row for n, row in enumerate(rows)]
    elif damage == "header":
        rows = rows[1:]
    elif damage == "stranger":
        rows = [*rows, [f"new-{cell}" for cell in rows[at]]]
    text = io.StringIO()
    end = rng.choice(["\n", "\r\n", "\r"])
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    csv.writer(text, delimiter=rng.choice(",;\t"), lineterminator=end, quoting=quoting).writerows(rows)
    out = text.getvalue()
    if rng.random() < 0.15:
        out = f"#a comment{end}#a second one{end}{out}"
    if damage == "quote":
        out += '"'
    if damage == "zero":
        out = out[:20] + "\0" + out[20:]
    data = out.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    if damage == "cut":
        data = data[: rng.randrange(len(data))]
    if damage == "latin":
        data = out.encode("latin-1", "replace")[:40] + b"\xe9" + out.encode("latin-1", "replace")[40:]
    return data


def classes_of(task: Task | Missing) -> dict[str, str]:
    assert isinstance(task, Task)
    return {slide: task.classes[n] for slide, n in zip(task.slides, task.labels.tolist(), strict=True)}


def check(path: Path, drawn: Drawn) -> None:
    """An error, if there is one, is raised; else what is read is true."""
    found, tasks = slide_labels.read(path, set(KNOWN)), read_tasks([path], None, set(KNOWN))
    if drawn.damage == "cut":  # what a cut leaves of a cell, nobody can know
        return
    true = {slide: label for slide, label in drawn.truth.items() if label}
    assert [(task.name, classes_of(task)) for task in tasks] == [("label", true)]
    (task,) = tasks
    assert isinstance(task, Task)
    assert len(task.patients) == (len(true) if drawn.patients is None else drawn.patients)
    numbers = zip(found.slides, found.values[:, 0].tolist(), strict=True)
    assert {slide: found.tasks[0].classes[n] for slide, n in numbers if n >= 0} == true


@pytest.mark.parametrize("seed", range(4))
def test_drawn_tables(seed: int, tmp_path: Path) -> None:
    rng, path, refused = random.Random(seed), tmp_path / "labels.csv", ""
    counts = Counter[str]()
    for _ in range(TABLES):
        drawn = draw(rng)
        path.write_bytes(drawn.data)
        try:
            check(path, drawn)
        except UsageError as error:
            refused = str(error)
            counts["refused" if drawn.damage else refused] += 1
            counts["unnamed"] += str(path) not in refused or "\n" in refused
        else:
            counts[drawn.damage or "read"] += 1
    # sound tables are read, whatever was damaged so that it shows is refused
    assert counts.keys() <= {"refused", "unnamed", "read", "cut"}, counts
    assert counts["unnamed"] == 0
    assert counts["read"] > TABLES // 10
    assert counts["refused"] > TABLES // 2
