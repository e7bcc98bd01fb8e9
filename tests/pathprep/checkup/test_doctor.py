"""The doctor: what it says of machines that are well, and of those where something is broken or missing."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pathprep.checkup import codecs, doctor, hardware, packages
from pathprep.checkup.codecs import Library
from pathprep.checkup.finding import Finding, guarded, tried
from pathprep.cli import app

WELL = Finding("OpenSlide", "Codecs", "ok", "4.0.1", "Reads slides.")
SMALL = Finding(
    "Shared memory", "Machine", "warning", "0.067 GB", "Loaders use it.", "docker run --shm-size=8g"
)
GONE = Finding("numpy", "Packages", "missing", "not installed", "Needed, 2.0 or later.", "pip install numpy")


def found(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(doctor, "doctor", lambda _folder: list(findings))


@pytest.mark.parametrize(
    ("findings", "code", "said"),
    [
        ([WELL], 0, "All is well."),
        ([WELL, SMALL], 0, "1 to look at"),
        ([WELL, SMALL, GONE], 1, "1 missing"),
    ],
)
def test_the_exit_code_tells_whether_something_needed_is_missing(
    monkeypatch: pytest.MonkeyPatch, findings: list[Finding], code: int, said: str
) -> None:
    found(monkeypatch, *findings)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == code
    assert said in done.stdout
    assert all(each.fix in done.stdout for each in findings)


def test_findings_are_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found(monkeypatch, WELL, GONE)
    done = CliRunner().invoke(app, ["doctor", "--json", "--out-json", str(tmp_path / "d.json")])
    facts = json.loads(done.stdout)
    assert facts == json.loads((tmp_path / "d.json").read_text())
    assert facts[1] == {
        "name": "numpy",
        "group": "Packages",
        "status": "missing",
        "state": "not installed",
        "means": "Needed, 2.0 or later.",
        "fix": "pip install numpy",
    }


def test_the_machine_at_hand_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "DISK_SAMPLE", 1 << 20)
    monkeypatch.setattr(codecs, "LIBRARIES", codecs.LIBRARIES[:1])  # each takes a second or two
    findings = {each.name: each for each in doctor.doctor(tmp_path)}
    assert findings["Python"].status == "ok"
    assert findings["libjpeg-turbo"].state == "encodes and decodes"
    assert f"Disk of {tmp_path}" in findings
    assert {"numpy", "Cores", "Memory", "Shared memory", "Open files", "NVIDIA driver"} <= findings.keys()
    assert all(each.fix for each in findings.values() if each.status != "ok")
    assert not list(tmp_path.iterdir())


def test_what_breaks_while_it_is_looked_at_is_a_finding() -> None:
    def look() -> list[Finding]:
        raise RuntimeError("no such register")

    (finding,) = guarded("GPU", "GPU", look)
    assert (finding.status, finding.state) == (
        "warning",
        "cannot be looked at (RuntimeError: no such register)",
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended with exit code -11"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("raise SystemError('symbol not found')", "SystemError: symbol not found"),
    ],
)
def test_a_library_that_crashes_is_reported(monkeypatch: pytest.MonkeyPatch, code: str, said: str) -> None:
    library = Library("OpenSlide", "json", code, "missing", "Reads slides.", "Install it again.")
    monkeypatch.setattr(codecs, "LIBRARIES", (library,))
    (finding,) = codecs.codecs()
    assert (finding.status, finding.state) == ("missing", f"does not work: {said}")
    assert finding.fix == "Install it again."


def test_a_library_that_hangs_is_given_up() -> None:
    assert tried("import time; time.sleep(60)", patience=0.2) == (False, "nothing for 0 s")


def test_packages_are_compared_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=2.0", "nothing-of-this-name>=1.2", "rich>=999", "ray>=2; extra == 'ray'"]
    monkeypatch.setattr(packages.metadata, "requires", lambda _name: needed)
    findings = {each.name: each for each in packages.packages()}
    assert findings["numpy"].status == "ok"
    assert (findings["nothing-of-this-name"].status, findings["rich"].status) == ("missing", "missing")
    assert findings["rich"].fix == "pip install 'rich>=999'"
    assert "ray" not in findings  # of an extra; Ray is told of by that name
    assert packages.numbers("2.10.0+cu130") > packages.numbers("2.9.1")
    assert packages.numbers("2.0rc1") == (2, 0)


def test_extras_are_known_by_their_build(monkeypatch: pytest.MonkeyPatch) -> None:
    class Distribution:
        def __init__(self, name: str) -> None:
            self.name, self.version = name, "26.2"

    names = ("cucim-cu13", "cupy-cuda13x", "raylib", "torchvision")
    monkeypatch.setattr(packages.metadata, "distributions", lambda: [Distribution(name) for name in names])
    findings = {each.name: each for each in packages.packages()}
    assert findings["cuCIM"].state == "cucim-cu13 26.2"
    assert findings["CuPy"].state == "cupy-cuda13x 26.2"
    assert (findings["Ray"].status, findings["PyTorch"].status) == ("warning", "warning")


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from pathprep.checkup import doctor, hardware, codecs; hardware.DISK_SAMPLE = 1 << 20\n"
        f"codecs.LIBRARIES = (); doctor.doctor({str(tmp_path)!r})\n"
        "print(sorted({'torch', 'numpy', 'cupy'} & sys.modules.keys()))"
    )
    assert tried(code) == (True, "[]")


def script(folder: Path, text: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)


def test_a_driver_that_fails_and_one_without_cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (none,) = hardware.gpus()
    assert (none.status, none.state) == ("warning", "no nvidia-smi")
    script(
        tmp_path, "print('Failed to initialize NVML: Driver/library version mismatch'); raise SystemExit(18)"
    )
    (broken,) = hardware.gpus()
    assert "version mismatch" in broken.state
    script(tmp_path, "print('NVIDIA H200, 580.65, 143771 MiB')")
    monkeypatch.setattr(hardware, "_CUPY", "raise ImportError('libnvrtc.so.13')")
    driver, card, cuda = hardware.gpus()
    assert (driver.state, card.state) == ("580.65", "NVIDIA H200, 143771 MiB")
    assert (cuda.status, cuda.state) == ("warning", "cannot be used: ImportError: libnvrtc.so.13")


def test_a_slow_disk_a_closed_one_and_little_shared_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hardware, "speeds", lambda _folder, _size: (5e6, 9e9))
    (slow,) = hardware.disk(tmp_path, 1 << 20)
    assert (slow.status, "writes 5 MB/s" in slow.state) == ("warning", True)
    monkeypatch.undo()
    (closed,) = hardware.disk(tmp_path / "none", 1 << 20)
    assert (closed.status, "No such file" in closed.state) == ("warning", True)
    monkeypatch.setattr(hardware, "LITTLE_SHARED", float("inf"))
    (small,) = hardware.shared_memory(tmp_path)
    assert (small.status, "--shm-size" in small.fix) == ("warning", True)


def test_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.resource, "getrlimit", lambda _what: (1024, 524_288))
    (few,) = hardware.open_files()
    assert (few.status, few.fix) == ("warning", "ulimit -n 65536")
