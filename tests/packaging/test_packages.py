"""The sdist and the wheel: what they hold, and that both commands start from the wheel alone."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pathprep import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = ("pathprep", "pathtrain", "kernels", "pyproject.toml", "README.md", "LICENSE")
BUILD = (
    "import sys; from setuptools import build_meta; getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2])"
)
EXTRA = "is not installed: install with the extra cuda13 or cuda12 (no GPU needed)"


def run(*words: object, cwd: Path, code: int = 0) -> str:
    """Runs a command that sees nothing of this checkout; returns what it printed, errors too."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel but its list of files, which names them in the order of the build."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources without what builds and tests leave in them."""
    folder = tmp_path_factory.mktemp("packages") / "tree"
    folder.mkdir()
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    """The source distribution."""
    out = tree.parent / "sdist"
    run(sys.executable, "-c", BUILD, "sdist", out, cwd=tree)
    return out / f"pathprep-{__version__}.tar.gz"


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    """The wheel that is built from the sources."""
    out = tree.parent / "wheel"
    run(sys.executable, "-c", BUILD, "wheel", out, cwd=tree)
    return out / f"pathprep-{__version__}-py3-none-any.whl"


def test_the_wheel_holds_every_file_of_the_packages(tree: Path, wheel: Path) -> None:
    sources = [tree / "pathprep", tree / "pathtrain", tree / "kernels"]
    files = {path.relative_to(tree) for folder in sources for path in folder.rglob("*") if path.is_file()}
    wanted = {Path("pathprep", path) if path.parts[0] == "kernels" else path for path in files}
    assert Path("pathprep/kernels/macenko.cu") in wanted
    assert wanted <= {Path(name) for name in contents(wheel)}


def test_the_sdist_builds_the_same_wheel(tmp_path: Path, sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path, filter="data")
    folder, out = tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "wheel"
    run(sys.executable, "-c", BUILD, "wheel", out, cwd=folder)
    assert contents(out / wheel.name) == contents(wheel)


@pytest.mark.slow  # installs 800 MB of wheels, and compiles kernels
@pytest.mark.timeout(1800)
def test_both_commands_start_from_the_wheel_alone(tmp_path: Path, wheel: Path) -> None:
    """Without extras: `pathprep` works, `pathtrain` says what to install."""
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    programs = tmp_path / "venv" / "bin"
    constraints = ("-c", REPOSITORY / "constraints.txt")
    run(programs / "python", "-m", "pip", "install", "-q", *constraints, wheel, cwd=tmp_path)
    pathprep, pathtrain = programs / "pathprep", programs / "pathtrain"

    assert run(pathprep, "--version", cwd=tmp_path).strip() == __version__
    assert "shard" in run(pathprep, "--help", cwd=tmp_path)
    assert "pretrain" in run(pathtrain, "--help", cwd=tmp_path)
    run(pathprep, "synth", "slides", "--slides", "1", "--size", "2048", cwd=tmp_path)
    run(pathprep, "shard", "slides", cwd=tmp_path)
    run(pathprep, "verify", "dataset", cwd=tmp_path)
    run(pathprep, "report", "dataset", cwd=tmp_path)
    said = run(pathtrain, "pretrain", "dataset", cwd=tmp_path, code=2)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert EXTRA in said
    assert EXTRA in run(pathtrain, "export", "runs/smoke", cwd=tmp_path, code=2)
    assert EXTRA in run(pathtrain, "embed", "model", "dataset", cwd=tmp_path, code=2)
    assert EXTRA in run(pathtrain, "evaluate", "knn", "model", "--train", "dataset", cwd=tmp_path, code=2)
