"""The whole evaluation in both layouts: known answers, folds, the command, and real sections."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.expression import GENES, hest_task, st_folder, write_split
from helpers.toys import write_run
from PIL import Image
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathtrain import evaluate
from pathtrain.cli import evaluations as app
from pathtrain.evaluate.expression.folds import in_parts
from pathtrain.evaluate.expression.spots import SpotTiles
from pathtrain.evaluate.expression.study import hest_scored
from pathtrain.evaluate.expression.tasks import tasks_of
from pathtrain.features.encode import encode
from pathtrain.params.encoding import How
from pathtrain.params.expression import HestParams
from pathtrain.runs.opening import load

SPOTS = {"A": 30, "B": 25, "C": 28}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return write_run(root / "run", root / "gone")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hest_task(tmp_path_factory.mktemp("hest") / "TOY", SPOTS)


@pytest.fixture(scope="module")
def result(run: Path, task: Path) -> dict[str, Any]:
    return evaluate.hest(run, task, protocol="both", random_seeds=2)


def test_a_gene_that_tiles_show_is_told_and_noise_is_not(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result
    assert [row["name"] for row in result["results"]] == ["model", "start", "random", "colour", "colour+LBP"]
    (task,) = result["tasks"]
    for protocol in ("pca", "plain"):
        found = {row["gene"]: row for row in task["per_gene"][protocol]["colour"]}
        assert found["BRIGHT"]["pearson"] > 0.9
        assert found["DARK"]["pearson"] > 0.9
        assert abs(found["NOISE"]["pearson"]) < 0.4
        assert found["STILL"]["pearson"] is None
    assert task["left_out_genes"] == {str(fold): ["STILL"] for fold in range(3)}
    assert task["fold_kind"] == "split"
    assert result["spots"] == sum(SPOTS.values())
    assert "lead" in result["results"][3]
    assert {"pearson_pca", "pearson_plain_spots_interval"} <= result["results"][3]["lead"].keys()
    assert len(result["results"][2]["pearson_pca_range"]) == 2
    assert "PCA(256)" in result["protocol"]


def test_it_is_what_scikit_learn_and_scipy_give_on_the_same_features(
    run: Path, task: Path, result: dict[str, Any]
) -> None:
    model = load(run)
    ((found, folds, _),) = tasks_of(task, HestParams(), None, None)
    tiles = SpotTiles(task, found.sections, model.target)
    (features,), _ = encode([model], tiles, np.arange(len(tiles)), How())
    means: dict[str, list[float]] = {"pca": [], "plain": []}
    for fold in folds:
        x, z = features[fold.train], features[fold.test]
        scaler, pca = StandardScaler(), PCA(min(256, *x.shape), random_state=1)
        a = torch.Tensor(pca.fit_transform(scaler.fit_transform(x)))  # as HEST's benchmark.py
        sides = {"pca": (a, torch.Tensor(pca.transform(scaler.transform(z)))), "plain": (x, z)}
        for protocol, (train, test) in sides.items():
            ridge = Ridge(
                solver="lsqr",
                alpha=100 / (train.shape[1] * len(GENES)),
                fit_intercept=False,
                max_iter=1000,
                random_state=1,
            )
            guess = ridge.fit(train, found.values[fold.train]).predict(test)
            truth = found.values[fold.test]
            varying = range(3)  # not STILL
            each = [pearsonr(truth[:, gene], guess[:, gene])[0] for gene in varying]
            means[protocol].append(float(np.mean(each)))
    for protocol, values in means.items():
        assert result["results"][0][f"pearson_{protocol}"] == pytest.approx(np.mean(values), abs=1e-12)


def test_tasks_are_averaged_and_have_units(run: Path, task: Path, tmp_path: Path) -> None:
    (tmp_path / "TOY").symlink_to(task)
    other = hest_task(tmp_path / "ZOO", {"X": 20, "Y": 20}, GENES[:2])
    (tmp_path / "notes").mkdir()
    both = hest_scored(run, tmp_path, baselines="colour")
    alone = [evaluate.hest(run, each, baselines="colour")["results"] for each in (task, other)]
    for row, first, second in zip(both.result["results"], *alone, strict=True):
        assert row["pearson_pca"] == pytest.approx((first["pearson_pca"] + second["pearson_pca"]) / 2)
    units = both.units["colour", "pearson_pca"]
    assert units.sums.shape == (5, 2)
    assert units.figure(np.ones((1, 5)))[0] == pytest.approx(both.result["results"][1]["pearson_pca"])


def test_patients_sections_and_parts_are_left_out(run: Path, tmp_path: Path) -> None:
    folder = st_folder(tmp_path / "st", {"A1": "A", "A2": "A", "B1": "B"})
    how = {"baselines": "none", "top_genes": 3}
    by_patient = evaluate.hest(run, folder, **how)["tasks"][0]
    assert by_patient["folds"] == {"A": {"train": 25, "test": 50}, "B": {"train": 50, "test": 25}}
    assert by_patient["sections"]["B1"]["picture_mpp"] == pytest.approx(2)
    assert by_patient["sections"]["B1"]["mpp_from"] == "spots 200 um apart"
    assert "STILL" not in by_patient["genes"]  # the least variable
    by_section = evaluate.hest(run, folder, folds="section", **how)["tasks"][0]
    assert list(by_section["folds"]) == ["A1", "A2", "B1"]
    by_part = evaluate.hest(run, folder, folds="blocks", blocks=2, **how)["tasks"][0]
    assert [fold["test"] for fold in by_part["folds"].values()] == [13, 12] * 3
    again = evaluate.hest(run, folder, folds="blocks", blocks=2, **how)["tasks"][0]
    assert again == by_part


def test_parts_share_no_tissue(tmp_path: Path) -> None:
    folder = st_folder(tmp_path / "st", {"A1": "A"}, pitch=80)
    pitch = {"pitch_um": 80.0, "top_genes": 3}  # closer than a tile is wide
    ((task, _, _),) = tasks_of(folder, HestParams(folds="blocks", blocks=2, **pitch), None, None)  # type: ignore[arg-type]
    for fold in in_parts(task, 2):
        apart = np.abs(task.places[fold.train][:, None] - task.places[fold.test][None]).max(axis=2)
        assert apart.min() >= 112  # um, at 1 MPP
        assert len(fold.train) + len(fold.test) < 25  # some are neither


def test_one_patient_one_section_and_patients_on_both_sides(run: Path, task: Path, tmp_path: Path) -> None:
    alone = st_folder(tmp_path / "one", {"A1": "A", "A2": "A"})
    with pytest.raises(UsageError, match=r"all sections are of patient A.*`folds` section or blocks"):
        evaluate.hest(run, alone, top_genes=3)
    single = st_folder(tmp_path / "single", {"A1": "A"})
    with pytest.raises(UsageError, match=r"section A1.*`folds` blocks"):
        evaluate.hest(run, single, top_genes=3, folds="section")
    owners = tmp_path / "owners.csv"
    owners.write_text("id,patient\nA,p1\nB,p1\nC,p2\n")
    with pytest.raises(UsageError, match=r"patient p1 is in train_0.csv and in test_0.csv"):
        evaluate.hest(run, task, patients=owners)
    by_patient = evaluate.hest(run, task, patients=owners, folds="patient", baselines="none")["tasks"][0]
    assert by_patient["folds"]["p1"] == {"train": 28, "test": 55}
    owners.write_text("id,patient\nZ,p1\n")
    with pytest.raises(UsageError, match="no sample is in the table of patients"):
        evaluate.hest(run, task, patients=owners)
    with pytest.raises(UsageError, match="whose is section A.*`patients`"):
        evaluate.hest(run, task, folds="patient")


def test_no_gene_varies_few_spots_and_no_such_folder(run: Path, tmp_path: Path) -> None:
    still = hest_task(tmp_path / "still", {"A": 8, "B": 8}, ["STILL"])
    with pytest.raises(UsageError, match="no gene varies among the 8 tested spots of fold 0"):
        evaluate.hest(run, still)
    few = hest_task(tmp_path / "few", {"A": 8, "B": 2})
    with pytest.raises(UsageError, match="fold 0 has 2 spots to learn from and 8 to test"):
        evaluate.hest(run, few)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="neither a task of HEST-Benchmark"):
        evaluate.hest(run, tmp_path / "empty")
    with pytest.raises(UsageError, match="not a folder"):
        evaluate.hest(run, tmp_path / "gone")
    with pytest.raises(UsageError, match="are of plain sections"):
        evaluate.hest(run, few, pitch_um=100.0)


def test_the_command_writes_genes_and_pictures(run: Path, task: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["hest", str(run), str(task), "--out", str(out), "--baselines", "colour", "--protocol", "both"]
    done = CliRunner().invoke(app, asked, env={"COLUMNS": "160"}, catch_exceptions=False)
    assert done.exit_code == 0
    assert "genes that do not vary in fold 0, left out there: STILL" in done.stdout
    assert "which say nothing of other patients" in done.stdout
    assert "TOY: 34 columns are learnt from 53 spots" not in done.stdout  # colour alone: of the model 24
    assert "TOY: 24 columns are learnt from 53 spots" in done.stdout
    kept = json.loads((run / "evaluation" / "hest.json").read_text())
    assert (run / "evaluation" / "hest.yaml").is_file()
    with (out / "genes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * len(GENES)  # protocols, kinds of features
    first = kept["tasks"][0]["per_gene"]["pca"]["model"][0]
    assert float(rows[0]["pearson"]) == pytest.approx(first["pearson"], rel=1e-5)
    assert next(row for row in rows if row["gene"] == "STILL")["pearson"] == ""
    with Image.open(out / "TOY.png") as picture:
        assert picture.width > picture.height / 2 > 50


def test_a_split_of_one_sample_needs_no_other(run: Path, tmp_path: Path) -> None:
    """CCRCC's published folds leave several samples out at once."""
    path = hest_task(tmp_path / "four", {"A": 10, "B": 10, "C": 10, "D": 10}, folds=False)
    write_split(path, 0, ["A", "B"], ["C", "D"])
    result = evaluate.hest(run, path, baselines="none")
    assert result["tasks"][0]["folds"] == {"0": {"train": 20, "test": 20}}
    assert result["results"][0]["pearson_pca_interval"] is None  # of one fold
    assert result["results"][0]["pearson_pca_spots_interval"] is not None


@pytest.mark.slow
def test_real_sections_depth_is_most_of_raw_counts(run: Path, data: Path) -> None:
    """her2st: colour tells .5 of raw counts, which are mostly how deep a spot was read, and .1 of
    scaled ones.
    """
    folder = data / "expression"
    if not folder.is_dir():
        pytest.skip(f"no sections at {folder}")
    how = {"baselines": "colour", "size": 32}
    raw = evaluate.hest(run, folder, **how)
    assert raw["spots"] == 650
    assert 0.4 < raw["results"][1]["pearson_pca"] < 0.6
    scaled = evaluate.hest(run, folder, counts="scaled", **how)
    assert 0.08 < scaled["results"][1]["pearson_pca"] < 0.2
