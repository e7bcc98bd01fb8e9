"""Where a recipe leaves it open whether networks are compiled."""

import shutil
import sysconfig
from pathlib import Path

import pytest
import torch

from pathtrain.training import compiling

CARD = torch.device("cuda", 0)


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A card, gcc, and a folder for Python's headers."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/gcc" if name == "gcc" else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name, scheme: str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "Python.h").touch()
    return tmp_path


def test_a_card_compiles(headers: Path) -> None:
    assert compiling.wanted("auto", CARD)
    assert not compiling.wanted(False, CARD)
    assert not compiling.wanted("auto", torch.device("cpu"))


def test_an_old_card_does_not(headers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert not compiling.wanted("auto", CARD)
    assert compiling.wanted(True, CARD)


def test_without_a_c_compiler_it_is_said_why_not(
    headers: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not compiling.wanted("auto", CARD)
    assert "not compiled, steps take longer: there is no C compiler" in caplog.text
    assert compiling.wanted(True, CARD)
    monkeypatch.setenv("CC", "cc")
    assert compiling.wanted("auto", CARD)


def test_without_pythons_headers_it_is_said_why_not(headers: Path, caplog: pytest.LogCaptureFixture) -> None:
    (headers / "Python.h").unlink()
    assert not compiling.wanted("auto", CARD)
    assert f"there is no {headers / 'Python.h'}" in caplog.text
