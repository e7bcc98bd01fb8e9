"""A run's page of results, logs and accounts that somebody else wrote: it is a page, or one sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.reports import EVIL, SHOWN, unharmed
from helpers.toys import TINY, labelled_folder, noise, write_dataset, write_run
from typer.testing import CliRunner

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathtrain.cli import evaluations
from pathtrain.errors import CheckpointError
from pathtrain.recipes.load import dump, load
from pathtrain.reports.compare import compare
from pathtrain.reports.page import report
from pathtrain.stain.target import ModelTarget

RESULTS = ("linear", "table-exaonepath1", "collapse-panels")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and one result of each of RESULTS; the dataset is gone, so no views are drawn."""
    root = tmp_path_factory.mktemp("made")
    dataset = write_dataset(root / "dataset", {name: noise(6, side=48, seed=ord(name)) for name in "abc"})
    run, other = write_run(root / "run", dataset), write_run(root / "other", dataset, seed=1)
    (other / "recipe.yaml").write_text(dump(load("smoke", [*TINY, "steps=20", "stain.mode=normalize"])))
    ModelTarget.of(stain.Target.default(), Dataset(dataset)).save(other)
    (root / "tasks").mkdir()
    pcam = labelled_folder(root / "tasks" / "pcam", {f"g{n}": "pb"[n % 2] for n in range(10)}, each=2)
    quick = ("--iterations", 3, "--seeds", 2)
    for given in (
        ("linear", run, "--train", pcam, *quick, "--out-json", root / "linear.json"),
        ("table", run, "--tasks", root / "tasks", *quick, "--out-json", root / "table-exaonepath1.json"),
        ("collapse", "--plain", run, dataset, "--normalised", other, dataset, "--k", 3, "--out", root),
    ):
        done = CliRunner().invoke(evaluations, [str(each) for each in given])
        assert done.exit_code == 0, done.output
    dataset.rename(root / "away")
    return root


def results(made: Path) -> dict[str, Path]:
    return {name: made / f"{name}.json" for name in RESULTS}


@pytest.fixture(scope="module")
def plain(made: Path) -> Path:
    return report(made / "run", made / "plain.html", list(results(made).values()))


def texts(value: Any) -> Any:
    """A result whose every text is hostile, classes too; what tells which evaluation it is of stays."""
    if isinstance(value, str):
        return EVIL
    if isinstance(value, list):
        return [texts(each) for each in value]
    if not isinstance(value, dict):
        return value
    changed = {
        key: each if key in ("task", "tsne", "present") else texts(each) for key, each in value.items()
    }
    for key in (key for key in ("classes", "per_class") if value.get(key)):
        names = value[key]
        named = [f"{EVIL} {name}" for name in names]
        changed[key] = named if isinstance(names, list) else dict(zip(named, names.values(), strict=True))
    return changed


@pytest.mark.parametrize("name", RESULTS)
def test_every_text_of_a_result(name: str, made: Path, plain: Path, tmp_path: Path) -> None:
    value = json.loads(results(made)[name].read_text())
    path = results(made)[name].with_name("theirs.json")  # beside its figure
    path.write_text(json.dumps(texts(value)))
    page = report(made / "run", tmp_path / "page.html", [path])
    assert unharmed(page, plain).count(SHOWN) >= 3


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("odd", [None, EVIL, [], {}, 1e299])
def test_a_part_that_is_none_of_a_result(name: str, odd: object, made: Path) -> None:
    """Each first part in turn; the whole of them takes minutes and was looked at by hand."""
    value = json.loads(results(made)[name].read_text())
    path = results(made)[name].with_name("theirs.json")
    for key in ("results", "models", "panels"):
        if key in value:
            path.write_text(json.dumps({**value, key: [odd, *value[key][1:]]}))
            with pytest.raises(UsageError, match=r"theirs\.json: of another version"):
                report(made / "run", path.with_suffix(".html"), [path])


@pytest.mark.parametrize("scores", [{"organ": {"auroc": EVIL}}, {"organ": EVIL}, {EVIL: {}}])
def test_scores_of_heads_that_are_none_name_their_file(scores: object, made: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made / "run", tmp_path / "run")
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "tasks.json").write_text(json.dumps(scores))
    with pytest.raises(UsageError, match=r"tasks\.json: of another version"):
        report(run)


def with_account(made: Path, tmp_path: Path, change: dict[str, Any]) -> Path:
    run = shutil.copytree(made / "run", tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, **change}))
    return run


def test_an_account_of_other_texts(made: Path, plain: Path, tmp_path: Path) -> None:
    identity = {"dataset build id": [], EVIL: EVIL, "dataset tiles": 0}
    change = {"dataset": f"/{EVIL}", "versions": {EVIL: None}, "identity": identity}
    run = with_account(made, tmp_path, change)
    assert unharmed(report(run), plain).count(SHOWN) >= 2
    several = {**change, "dataset": [EVIL, EVIL], "drawn": [EVIL]}
    (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), **several}))
    assert unharmed(report(run), plain).count(SHOWN) >= 3
    compare([run, made / "other"], tmp_path / "compare.html")
    compare([made / "run", made / "other"], tmp_path / "usual.html")
    unharmed(tmp_path / "compare.html", tmp_path / "usual.html")


@pytest.mark.parametrize(
    "change",
    [{"dataset": None}, {"dataset": [EVIL, 1]}, {"identity": {"dataset tiles": EVIL}}, {"versions": EVIL}],
)
def test_an_account_of_other_values_is_one_sentence(
    change: dict[str, Any], made: Path, tmp_path: Path
) -> None:
    run = with_account(made, tmp_path, change)
    for show in (report, lambda run: compare([run, made / "other"], tmp_path / "compare.html")):
        with pytest.raises(CheckpointError, match=r"run\.json is damaged \("):
            show(run)


@pytest.mark.parametrize("key", ["loss", "images_s", "data_wait"])
@pytest.mark.parametrize("value", [None, EVIL, {}, "gone"])
def test_a_log_of_other_values(key: str, value: object, made: Path, plain: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made / "run", tmp_path / "run")
    lines = (run / "log.jsonl").read_text().splitlines()
    last = {**json.loads(lines[-1]), key: value}
    if value == "gone":
        del last[key]
    (run / "log.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    assert "Last loss" in unharmed(report(run), plain)
