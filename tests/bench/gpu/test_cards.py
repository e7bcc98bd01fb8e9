"""What is told of a card."""

from pathlib import Path
from types import ModuleType

import pytest

SAYS = """NVIDIA H200, 580.159.03, 143771 MiB, 1980 MHz, 345 MHz, 3201 MHz, 700.00 W
NVIDIA H200, 580.159.03, 143771 MiB, 1980 MHz, 1755 MHz, 3201 MHz, [N/A]
"""


def test_cards_are_as_nvidia_smi_has_them(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{SAYS}END\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine = scripts["machine"]
    one, other = machine.cards()
    assert (one["name"], one["driver"], one["clock"], one["power"]) == (
        "NVIDIA H200",
        "580.159.03",
        "1980 MHz",
        "700.00 W",
    )
    assert (other["clock_now"], other["power"]) == ("1755 MHz", "[N/A]")
    assert machine.describe()["gpus"] == ["NVIDIA H200"] * 2
    assert "nvidia-h200" in machine.tag(machine.describe())


def test_without_a_driver_there_is_none(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scripts["machine"].cards() == []
