"""The command line: exit codes, one-line errors, quick help."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.toys import TINY, noise, write_dataset

from pathtrain import cli
from pathtrain.errors import CollapseError


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pathtrain", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pretrain", "absent"], 2, "error: absent: not a dataset"),
        (
            ["pretrain", "--set", "optim.lr=0"],
            2,
            "error: recipe smoke: optim.lr: Input should be greater than 0",
        ),
        (["pretrain", "--recipe", "mine"], 2, "error: recipe mine: no such recipe"),
        (["pretrain", "--nonsense"], 2, "No such option"),
        (["pretrain", "--set", "optim.lr"], 2, "error: --set optim.lr: expected key=value"),
        (["embed", "a", "b", "--device", "abacus"], 2, "Invalid value for '--device'"),
        (["embed", "a", ".", "--batch", "0"], 2, "error: --batch must be above 0"),
        (["evaluate", "linear", "a", "--train", "b", "--lr", "0"], 2, "error: --lr must be above 0"),
        (["evaluate", "slides", "a", "--labels", "b", "--clam-size", "huge"], 2, "--clam-size"),
        (["embed", "absent", "."], 2, "error: absent: neither a run"),
        (["export", "absent"], 2, "error: absent: neither a run"),
        (["report", "absent"], 2, "error: absent"),
        (["evaluate", "collapse", "absent"], 2, "error: absent: neither a run"),
    ],
)
def test_errors_are_one_line_and_have_their_code(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    if shown.err.startswith("error:"):
        assert len(shown.err.splitlines()) == 1


def test_ctrl_c_says_how_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pathtrain.training.pretrain.pretrain", interrupted)
    assert call(monkeypatch, "pretrain", "data", "--fresh") == 130
    assert "the same command without --fresh goes on from the last checkpoint" in capsys.readouterr().err


def test_a_collapse_has_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def collapsed(*_: object, stop_on_collapse: bool, **__: object) -> None:
        raise CollapseError(f"collapsed: {stop_on_collapse}")

    monkeypatch.setattr("pathtrain.training.pretrain.pretrain", collapsed)
    assert call(monkeypatch, "pretrain", "--stop-on-collapse") == 76
    assert capsys.readouterr().err == "error: collapsed: True\n"


def test_defaults_are_dataset_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train, export, embed and report with nothing but defaults, in an empty folder with a dataset."""
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "dataset", {"a": noise(9, 48, seed=1), "b": noise(9, 48, seed=2)})
    settings = [part for value in (*TINY, "steps=2", "batch=4") for part in ("--set", value)]
    assert call(monkeypatch, "pretrain", *settings) == 0
    assert "runs/smoke: 2 steps done, last loss" in capsys.readouterr().out
    assert call(monkeypatch, "export", "runs/smoke") == 0
    assert call(monkeypatch, "embed", "model", "dataset") == 0
    assert call(monkeypatch, "report", "runs/smoke") == 0
    assert (tmp_path / "runs" / "smoke" / "report.html").is_file()
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["a.h5", "b.h5"]
    assert "18 tiles" in capsys.readouterr().out
    assert call(monkeypatch, "pretrain", *settings) == 0
    assert "finished, 2 of 2 steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("--help", "evaluate"),
        ("pretrain", "--recipe"),
        ("evaluate linear", "--sgd-batch"),
        ("embed", "--level"),
    ],
)
def test_help_imports_nothing_heavy(command: str, option: str) -> None:
    code = (
        f"import sys; sys.argv = ['pathtrain', *{command!r}.split(), '--help']\n"
        "from pathtrain.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code in (0, None)\n"
        "heavy = {'torch', 'nvidia.dali', 'numpy', 'sklearn', 'matplotlib', 'yaml', 'pyarrow'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert option in done.stdout


def test_a_wrong_recipe_is_found_before_torch_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['pathtrain', 'pretrain', '--set', 'batch=0']\n"
        "from pathtrain.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_dali_the_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['nvidia.dali'] = None; sys.argv = ['pathtrain', 'pretrain', sys.argv[1]]\n"
        "from pathtrain.cli import main\n"
        "main()\n"
    )
    write_dataset(tmp_path / "d", {"a": noise(4)})
    command = [sys.executable, "-c", code, str(tmp_path / "d")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error: DALI is not installed: install with the extra cuda13 or cuda12" in done.stderr
