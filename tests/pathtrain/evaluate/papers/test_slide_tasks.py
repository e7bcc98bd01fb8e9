"""Tasks of slides in a table: models and baselines embedded once, scored and compared together."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.toys import noise, write_dataset, write_run

from pathtrain.evaluate.papers import slide_tasks
from pathtrain.evaluate.papers.table import table

GIVEN: dict[str, Any] = {
    "method": ["linear"],
    "baselines": "start,random,colour",
    "random_seeds": 2,
    "threads": 1,
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Twelve slides, half of them red; the labels of LUAD-EGFR say which."""
    colours = [(200, 60, 60), (120, 120, 220)]
    slides = {f"s{n:02}": noise(4, colour=colours[n % 2], seed=n) for n in range(12)}
    write_dataset(tmp_path / "dataset", slides)
    rows = [f"s{n:02},p{n},{'test' if n >= 6 else 'train' if n < 4 else 'val'},{n % 2}" for n in range(12)]
    (tmp_path / "labels").mkdir()
    text = "slide_id,patient_id,split,label\n" + "\n".join(rows) + "\n"
    (tmp_path / "labels" / "luad_egfr.csv").write_text(text)
    path = tmp_path / "study.yaml"
    tasks = {"LUAD-EGFR": {"data": "dataset", "labels": "labels"}}
    path.write_text(yaml.safe_dump({"paper": "exaonepath2", "tasks": tasks}))
    return path


def test_models_are_embedded_once_and_compared(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [write_run(tmp_path / name, tmp_path / "gone", seed=seed) for seed, name in enumerate("ab")]
    embedded: list[Path] = []
    plain = slide_tasks.embed

    def counted(model: Any, data: Any, place: Path, **more: Any) -> Any:
        embedded.append(place)
        return plain(model, data, place, **more)

    monkeypatch.setattr(slide_tasks, "embed", counted)
    result = table(runs, study, cache=tmp_path / "cache", **GIVEN)
    assert result["present"] == ["LUAD-EGFR"]
    for entry in result["models"]:
        assert [row["name"] for row in entry["rows"]] == ["model", "start", "random", "colour"]
        assert entry["rows"][3]["figures"]["LUAD-EGFR"] == 1.0  # red or blue
        own = entry["rows"][0]
        assert own["leads"] == {}
        lead = entry["rows"][3]["leads"]["LUAD-EGFR"]
        assert lead["lead"] == pytest.approx(own["figures"]["LUAD-EGFR"] - 1.0)
        assert len(own["intervals"]["LUAD-EGFR"]) == 2
    (difference,) = result["differences"]
    values = [entry["rows"][0]["figures"]["LUAD-EGFR"] for entry in result["models"]]
    assert difference["difference"] == pytest.approx(values[0] - values[1])
    assert {"p_holm", "test"} <= difference.keys()
    assert len(embedded) == 8
    assert len(set(embedded)) <= 8
    again = table(runs, study, cache=tmp_path / "cache", **GIVEN)
    assert len(embedded) == 8  # the result itself was kept
    assert again["models"][0]["rows"] == result["models"][0]["rows"]


def test_labels_that_are_missing_fail_that_task_alone(study: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tmp_path / "gone")
    (tmp_path / "labels" / "luad_egfr.csv").unlink()
    result = table([run], study, **GIVEN)
    assert "luad_egfr.csv" in result["models"][0]["failed"]["LUAD-EGFR"]


def test_features_of_a_slide_that_is_gone_do_not_count(study: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tmp_path / "gone")
    given = {**GIVEN, "baselines": "none", "cache": tmp_path / "cache"}
    assert not table([run], study, **given)["models"][0]["failed"]
    shutil.rmtree(tmp_path / "dataset")
    write_dataset(tmp_path / "dataset", {f"s{n:02}": noise(4, seed=n) for n in range(11)})
    reason = table([run], study, **given)["models"][0]["failed"]["LUAD-EGFR"]
    assert "slide s11 has no features" in reason


def test_a_file_of_tasks_lies_beside_the_study_and_is_part_of_what_is_kept(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", tmp_path / "gone")
    own = tmp_path / "own.yaml"
    task = {"name": "LUAD-EGFR", "labels": "luad_egfr.csv", "column": "label"}
    own.write_text(yaml.safe_dump({"tasks": [{**task, "kind": "classes"}]}))
    values = yaml.safe_load(study.read_text())
    values["tasks"]["LUAD-EGFR"]["tasks"] = "own.yaml"
    study.write_text(yaml.safe_dump(values))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    given = {**GIVEN, "baselines": "none", "cache": tmp_path / "cache"}
    assert "auroc" in _only_row(table([run], study, **given))
    own.write_text(yaml.safe_dump({"tasks": [{**task, "kind": "ordinal"}]}))
    assert "kappa" in _only_row(table([run], study, **given))


def _only_row(result: dict[str, Any]) -> dict[str, Any]:
    (entry,) = result["models"]
    found: dict[str, Any] = entry["evaluations"]["LUAD-EGFR"]["slides"]["tasks"][0]["results"][0]
    return found


def test_one_method_is_one_figure(study: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tmp_path / "gone")
    result = table([run], study, **{**GIVEN, "method": ["abmil", "linear"]})
    assert "`method` abmil, linear: a table has one figure" in result["models"][0]["failed"]["LUAD-EGFR"]
