"""What a study file or a folder of tasks says; what it says wrongly is named with the file."""

from pathlib import Path

import pytest
import yaml
from helpers.toys import labelled_folder

from pathprep.errors import UsageError
from pathtrain.evaluate.papers.study_file import find

GROUPS = {f"g{number}": "pb"[number % 2] for number in range(4)}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """PCam with a test set, MHIST without."""
    root = tmp_path / "tasks"
    (root / "pcam").mkdir(parents=True)
    labelled_folder(root / "pcam" / "train", GROUPS, each=1)
    labelled_folder(root / "pcam" / "test", {"h1": "p", "h2": "b"}, each=1)
    labelled_folder(root / "mhist", GROUPS, each=1)
    (root / "til").mkdir()  # nothing in it
    return root


def sources(path: Path, paper: str | None = None) -> dict[str, dict[str, object]]:
    return {name: task.source for name, task in find(path, paper).tasks.items()}


def test_tasks_are_found_in_folders_and_files(tasks: Path, tmp_path: Path) -> None:
    pcam = {"train": tasks / "pcam/train", "test": tasks / "pcam/test"}
    assert sources(tasks) == {"pcam": pcam, "mhist": {"train": tasks / "mhist"}}
    entries = {
        "mhist": {"train": "tasks/mhist"},
        "pcam": {"train": "tasks/pcam/train", "test": "tasks/pcam/test"},
    }
    file = tmp_path / "tasks.yaml"
    for text in (entries, {"tasks": entries}):
        file.write_text(yaml.safe_dump(text))
        assert sources(file) == {"pcam": pcam, "mhist": {"train": tasks / "mhist"}}
        assert list(find(file).tasks) == ["pcam", "mhist"]  # in the paper's order


def test_a_study_names_models_settings_and_its_paper(tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    file = tmp_path / "study.yaml"
    entries = {
        "mhist": {"train": "tasks/mhist", "settings": {"seeds": 2}},
        "til": {"train": "tasks/mhist"},  # another paper's
    }
    whole = {
        "paper": "midnight",
        "models": {"ours": "run", "UNI2": "uni2-h"},
        "settings": {"baselines": "colour"},
    }
    file.write_text(yaml.safe_dump({**whole, "tasks": entries}))
    study = find(file)
    assert study.paper == "midnight"
    assert study.models == {"ours": str(tmp_path / "run"), "UNI2": "uni2-h"}
    assert study.settings == {"baselines": "colour"}
    assert study.tasks["mhist"].settings == {"seeds": 2}
    assert study.others == ("til",)
    other = find(file, "exaonepath1")
    assert (list(other.tasks), other.others) == (["mhist", "til"], ())
    file.write_text(yaml.safe_dump({"models": ["run", "uni2-h"], "tasks": entries}))
    assert find(file).models == {"run": str(tmp_path / "run"), "uni2-h": "uni2-h"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read as YAML"),
        ("- pcam", "expected tasks with train"),
        ("pcan: {train: x}", "task pcan is not one of pcam, mhist"),
        ("pcam: {test: x}", "pcam needs train"),
        ("pcam: 3", "pcam needs train"),
        ("pcam: {train: x, vel: y}", "nothing else, such as vel"),
        ("pcam: {train: nowhere}", "nowhere is neither a dataset nor images"),
        ("pcam: {train: tasks/mhist, settings: 3}", "pcam: settings must be names with values"),
        ("{}", "offers none of the tasks"),
        ("{tasks: {}, modls: []}", "modls is none of models, paper, settings, tasks"),
        ("{tasks: []}", "tasks must be names"),
        ("{tasks: {mhist: {train: tasks/mhist}}, models: 3}", "models must be a list"),
        ("{tasks: {mhist: {train: tasks/mhist}}, models: {a: 3}}", "models must be a list"),
        ("{tasks: {mhist: {train: tasks/mhist}}, paper: x}", "`paper` x: give exaonepath1"),
        ("{tasks: {mhist: {train: tasks/mhist}}, paper: [x]}", "`paper`"),
    ],
)
def test_wrong_files(tasks: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        find(tmp_path / "tasks.yaml")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"tasks.yaml: there is no such study file; .* pcam: \{train: FOLDER\}"
    ):
        find(tmp_path / "tasks.yaml", "midnight")


def test_a_folder_without_tasks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="offers none of the tasks pcam, bach"):
        find(tmp_path, "midnight")
