"""Labels, splits and scores: what is masked, what is refused and how, and numbers with known values."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.featured import write_features, write_labels
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from pathprep.errors import UsageError
from pathtrain.evaluate.slide_level.measures import Predictions
from pathtrain.evaluate.slide_level.scores import over_seeds, score
from pathtrain.evaluate.slide_level.splits import hold_out, splits
from pathtrain.evaluate.slide_level.tasks import Missing, Task, read_tasks
from pathtrain.features.bags import Bags

ROW = ("model", "linear")


def rows(count: int = 12, **more: Any) -> list[dict[str, Any]]:
    parts = ["train"] * 8 + ["test"] * (count - 8)
    return [
        {
            "slide_id": f"s{n}",
            "patient_id": f"p{n // 2}",
            "split": parts[n],
            "egfr": "mutant" if n % 2 else "wild",
            **{key: value(n) for key, value in more.items()},
        }
        for n in range(count)
    ]


KNOWN = {f"s{n}" for n in range(12)}


def one(path: Path, **more: Any) -> Task:
    (task,) = read_tasks([path], None, KNOWN, **more)
    assert isinstance(task, Task)
    return task


def test_unknown_labels_are_masked_per_task(tmp_path: Path) -> None:
    table = rows(kras=lambda n: "" if n in (0, 5) else n % 3)
    egfr, kras = read_tasks([write_labels(tmp_path / "l.csv", table)], None, KNOWN)
    assert isinstance(egfr, Task)
    assert isinstance(kras, Task)
    assert (egfr.name, egfr.classes, len(egfr.slides)) == ("egfr", ["mutant", "wild"], 12)
    assert kras.slides == [f"s{n}" for n in range(12) if n not in (0, 5)]
    assert kras.labels.tolist() == [n % 3 for n in range(12) if n not in (0, 5)]
    assert len(egfr.patients) == 6
    assert egfr.patient.tolist() == [n // 2 for n in range(12)]


def changed(number: int, **cells: Any) -> list[dict[str, Any]]:
    table = rows()
    table[number] |= cells
    return table


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (changed(0, slide_id="TCGA.1"), "l.csv: slide TCGA.1 has no features"),
        (changed(1, slide_id="s0"), "l.csv, line 3: slide s0 is there more than once"),
        (changed(7, split="test"), r"patient p3 in more than one part \(p3: train and test\)"),
        (changed(3, split="later"), "slide s3: split is later; give train, val or test"),
        (changed(3, split=""), "slide s3: split is empty"),
        (changed(3, patient_id=""), "slide s3 has no patient_id"),
        ([{**row, "egfr": "wild"} for row in rows()], r"\(egfr: all 12 labels are wild\)"),
        ([{**row, "egfr": ""} for row in rows()], r"\(egfr: no label\)"),
        ([{"slide_id": "s0", "split": "train"}], "no column beside slide_id, split holds classes"),
        ([{"stem": "s0", "a": "1"}], "no column slide_id"),
    ],
)
def test_refused(table: list[dict[str, Any]], error: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=error):
        read_tasks([write_labels(tmp_path / "l.csv", table)], None, KNOWN)


def test_slides_without_features_may_be_left_out(tmp_path: Path) -> None:
    task = one(write_labels(tmp_path / "l.csv", changed(0, slide_id="gone")), allow_missing=True)
    assert task.left_out == ["gone"]
    assert len(task.slides) == 11


BENCHMARK = """
tasks:
  - {name: A, labels: a.csv, column: egfr, positive: mutant}
  - {name: B, labels: b.csv, column: egfr}
  - {name: C, labels: [a.csv], column: grade, positive: 2}
"""


def test_benchmark_with_a_task_missing(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(BENCHMARK)
    folder = tmp_path / "labels"
    folder.mkdir()
    write_labels(folder / "a.csv", rows(grade=lambda n: n % 4))
    a, b, c = read_tasks([folder], str(tmp_path / "b.yaml"), KNOWN)
    assert isinstance(a, Task)
    assert isinstance(c, Task)
    assert a.classes == ["wild", "mutant"]
    assert b == Missing("B", f"no labels: {folder / 'b.csv'} is not there")
    assert c.classes == ["not 2", "2"]
    assert c.labels.tolist() == [int(n % 4 == 2) for n in range(12)]


def test_benchmark_of_the_paper_has_ten_tasks(tmp_path: Path) -> None:
    write_labels(tmp_path / "crc_msi.csv", [{**row, "label": int(row["egfr"] == "wild")} for row in rows()])
    found = read_tasks([tmp_path], "exaonepath2", KNOWN)
    assert [task.name for task in found if isinstance(task, Task)] == ["CRC-MSI"]
    assert len(found) == 10
    with pytest.raises(UsageError, match="none of (9|10) tasks"):
        (tmp_path / "crc_msi.csv").unlink()
        read_tasks([tmp_path], "exaonepath2", KNOWN)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tasks: []", "names no task"),
        ("tasks: [{name: A}]", "tasks.0.column: Field required"),
        ("tasks: [{name: A, column: x, colour: 1}]", "tasks.0.colour"),
        ("tasks: [{name: A, column: egfr}, {name: A, column: egfr}]", "task A is there twice"),
        ("tasks: [{name: A, column: nothing}]", "task A: no column nothing"),
        ("tasks: [{name: A, column: egfr, positive: yes please}]", "no slide is yes please"),
        ("tasks: [", "YAML that can be read"),
    ],
)
def test_benchmark_that_is_wrong(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(UsageError, match=error):
        read_tasks([write_labels(tmp_path / "l.csv", rows())], str(tmp_path / "b.yaml"), KNOWN)


def cohort(count: int = 40, classes: int = 2, per_patient: int = 2, parts: bool = False) -> Task:
    number = np.arange(count)
    return Task(
        name="t",
        slides=[f"s{n}" for n in number],
        classes=[str(c) for c in range(classes)],
        labels=number // per_patient % classes,
        patients=[f"p{n}" for n in range(-(-count // per_patient))],
        patient=number // per_patient,
        parts=["train" if n < count // 2 else "test" for n in number] if parts else None,
        by_patient=True,
        left_out=[],
    )


@pytest.mark.parametrize("per_patient", [1, 2, 3])
@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_disjoint_by_patient_and_cover_all(folds: int, per_patient: int) -> None:
    task = cohort(42, per_patient=per_patient)
    found = splits(task, folds)
    assert len(found) == folds
    assert sorted(np.concatenate([split.test for split in found]).tolist()) == list(range(42))
    for split in found:
        assert not set(task.patient[split.train]) & set(task.patient[split.test])
        for seed in range(4):
            kept, held = hold_out(task, split.train, seed)
            assert sorted([*kept, *held]) == sorted(split.train)
            assert not set(task.patient[kept]) & set(task.patient[held])
            assert set(task.labels[kept]) == set(task.labels[held]) == {0, 1}
    assert [s.test.tolist() for s in splits(task, folds)] == [s.test.tolist() for s in found]


def test_held_out_patients_follow_the_seed() -> None:
    task = cohort()
    draws = [hold_out(task, np.arange(40), seed)[1].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_fixed_parts(tmp_path: Path) -> None:
    table = [{**row, "split": "valid" if 4 <= n < 8 else row["split"]} for n, row in enumerate(rows())]
    (split,) = splits(one(write_labels(tmp_path / "l.csv", table)), None)
    assert split.val is not None
    assert (split.train.tolist(), split.val.tolist()) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert split.test.tolist() == [8, 9, 10, 11]


def test_splits_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="have no column split"):
        splits(cohort(), None)
    with pytest.raises(
        UsageError, match=re.escape("`folds` 30: task t has 10 patients of class 0; give 2 to 10")
    ):
        splits(cohort(), 30)
    alone = cohort(8, per_patient=4)
    with pytest.raises(UsageError, match="1 patient of class 0 to train on; at least 2"):
        hold_out(alone, np.arange(8), 0)
    one_sided = cohort(parts=True)
    one_sided.labels[20:] = 0
    with pytest.raises(UsageError, match="the test part has only class 0"):
        splits(one_sided, None)
    one_sided.labels[:] = [0] * 20 + [1] * 20
    with pytest.raises(UsageError, match="the train part has no slide of class 1"):
        splits(one_sided, None)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_against_sklearn(classes: int) -> None:
    task = cohort(60, classes)
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(3):
        drawn = np.round(rng.dirichlet(np.ones(classes), 60), 1) + 1e-3  # rounded: with ties
        runs.append([Predictions(np.arange(60), drawn / drawn.sum(axis=1, keepdims=True))])
    result = score(task, {ROW: runs}, 0)[ROW]
    for run, auroc, balanced in zip(
        runs, result["auroc"]["seeds"], result["balanced_accuracy"]["seeds"], strict=True
    ):
        p = run[0].values
        expected = roc_auc_score(task.labels, p[:, 1] if classes == 2 else p, multi_class="ovr")
        assert auroc == pytest.approx(expected, abs=1e-12)
        assert balanced == pytest.approx(balanced_accuracy_score(task.labels, p.argmax(axis=1)), abs=1e-12)
    low, high = result["auroc"]["patients_interval"]
    assert low < result["auroc"]["mean"] < high
    assert result["patients"] == 30


def test_interval_over_patients_is_wider_than_over_their_slides() -> None:
    # ten equal slides per patient are no more evidence than one
    rng = np.random.default_rng(1)
    widths = []
    for per_patient in (1, 10):
        task = cohort(200, per_patient=per_patient)
        noise = np.repeat(rng.normal(size=200 // per_patient), per_patient)
        p = 1 / (1 + np.exp(-(task.labels + noise)))
        runs = [[Predictions(np.arange(200), np.stack([1 - p, p], axis=1))]]
        result = score(task, {ROW: runs}, 0)[ROW]
        low, high = result["auroc"]["patients_interval"]
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_leads_are_paired_and_over_those_that_compete() -> None:
    task = cohort(60)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=60)

    def runs(signal: float) -> list[list[Predictions]]:
        p = 1 / (1 + np.exp(-(signal * task.labels + noise)))
        return [[Predictions(np.arange(60), np.stack([1 - p, p], axis=1))]]

    rows = {("a", "abmil"): runs(1.5), ("b", "abmil"): runs(1.0), ("b", "linear"): runs(0.5)}
    rows["colour", "linear"] = runs(0.0)
    found = score(task, rows, 0)
    leads = found["a", "abmil"]["leads"]
    assert [(lead["model"], lead["method"]) for lead in leads] == [("b", "abmil"), ("colour", "linear")]
    assert not found["colour", "linear"]["leads"]
    mean = {row: scores["auroc"]["mean"] for row, scores in found.items()}
    assert leads[0]["auroc"] == pytest.approx(mean["a", "abmil"] - mean["b", "abmil"])
    # the same noise in both: alone each is uncertain by more than they differ, the lead is not
    low, high = leads[0]["auroc_interval"]
    assert 0 < low < high
    own = found["a", "abmil"]["auroc"]["patients_interval"]
    assert high - low < 0.7 * (own[1] - own[0])  # drawn apart it would be about 1.4 of it


def test_a_lead_of_few_patients_lies_within_what_it_can_be() -> None:
    task = cohort(4)
    right = np.eye(2)[task.labels]
    half = np.where(np.arange(4)[:, None] < 2, right, right[:, ::-1])
    rows = {(name, "abmil"): [[Predictions(np.arange(4), p)]] for name, p in (("a", right), ("b", half))}
    low, high = score(task, rows, 0)["a", "abmil"]["leads"][0]["balanced_accuracy_interval"]
    assert -1 <= low < high <= 1


def test_interval_over_seeds_by_hand() -> None:
    # mean .8, sd .1, t(.975, 3) = 3.1824: half 3.1824 * .1 / 2
    values = [0.8 - 0.1 * np.sqrt(0.75), 0.8 + 0.1 * np.sqrt(0.75)] * 2
    low, high = over_seeds(values) or (0, 0)
    assert (low, high) == (pytest.approx(0.8 - 0.15912, abs=1e-4), pytest.approx(0.8 + 0.15912, abs=1e-4))
    assert over_seeds([0.5]) is None


def test_features_of_every_kind(tmp_path: Path) -> None:
    bag, vector = np.ones((3, 4), np.float32), np.arange(4, dtype=np.float32)
    bags = Bags.open(write_features(tmp_path / "bags", {"a": bag, "b": bag[:1]}))
    assert (bags.bags, bags.dim, bags.counts, bags.name) == (True, 4, {"a": 3, "b": 1}, "bags")
    places = bags.places("a")
    assert places is not None
    assert (places.side, places.coords.tolist()) == (32, [[0, 0], [32, 0], [64, 0]])
    vectors = Bags.open(write_features(tmp_path / "vectors", {"TCGA-1.x": vector}), "hipt")
    assert (vectors.bags, vectors.name, vectors.mean("TCGA-1_x").tolist()) == (False, "hipt", [0, 1, 2, 3])
    assert vectors.places("TCGA-1_x") is None


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, "no .h5 file there"),
        ({"a": np.ones((3, 4)), "b": np.ones((3, 5))}, "b.h5: 5 numbers per tile, a.h5 has 4"),
        ({"a": np.ones((3, 4)), "b": np.ones(4)}, "b.h5: one vector for the slide, but others"),
        ({"a": np.ones((0, 4))}, "a.h5: features are \\(0, 4\\)"),
        ({"a.b": np.ones((3, 4)), "a_b": np.ones((3, 4))}, "a second file of slide a_b"),
    ],
)
def test_features_that_cannot_be_used(files: dict[str, Any], error: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=error):
        Bags.open(write_features(tmp_path, files))


def test_features_that_are_damaged(tmp_path: Path) -> None:
    bags = Bags.open(write_features(tmp_path / "nan", {"a": np.full((3, 4), np.nan, np.float32)}))
    with pytest.raises(UsageError, match="a.h5: holds NaN"):
        bags.read("a")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.h5").write_text("not HDF5")
    with pytest.raises(UsageError, match="a.h5: not a file of features"):
        Bags.open(tmp_path / "text")
