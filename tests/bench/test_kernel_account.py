"""The CUDA kernels' machine code stays as good as it is: a slower kernel is seen without a card."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
# On an H100 or H200: at most so many registers and instructions that spill; at least so many loads in flight
# and threads on an SM; at most so many instructions a pixel. From bench/kernel_account.py, with some room for
# compilers
HELD: dict[str, tuple[int, int, int, int, dict[str, float]]] = {
    "macenko": (64, 360, 4, 1024, {"moments": 29, "angles": 29.5, "concentrations": 29.5, "output": 33.5}),
    "macenko_apply": (40, 4, 3, 1536, {"apply": 36.5}),
    "tiling_copy": (48, 0, 4, 1280, {"resampling": 113}),
    "tiling_halve": (48, 0, 4, 1280, {"resampling": 137}),
    "tiling_area": (64, 0, 4, 1024, {}),
}


@pytest.fixture(scope="module")
def account() -> ModuleType:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        for name in ("kernel_account", "sass", "machine"):
            patch.delitem(sys.modules, name, raising=False)
        made = importlib.import_module("kernel_account")
        try:
            importlib.import_module("sass").tool("nvdisasm")
        except (ImportError, FileNotFoundError):
            pytest.skip("triton, whose package has the disassembler, is not installed")
        return made


@pytest.fixture(scope="module")
def rows(account: ModuleType) -> dict[str, dict[str, Any]]:
    files = ("macenko.cu", "macenko_apply.cu", "tiling.cu")
    return {row["kernel"]: row for row in account.accounts(["sm_90"], files)}


@pytest.mark.parametrize("kernel", HELD)
def test_no_kernel_is_worse_than_it_was(rows: dict[str, dict[str, Any]], kernel: str) -> None:
    registers, spills, in_flight, resident, passes = HELD[kernel]
    row = rows[kernel]
    assert row["registers"] <= registers
    assert row["spills"] <= spills
    assert row["loads_in_flight"] >= in_flight
    assert row["resident"] >= resident
    assert row["instructions_a_pixel"].keys() == passes.keys()
    for name, most in passes.items():
        assert row["instructions_a_pixel"][name] <= most, name


def test_no_pass_over_the_pixels_spills(rows: dict[str, dict[str, Any]]) -> None:
    """Where registers are spilled, it is outside the loops that take the time."""
    assert {row["spills_in_passes"] for row in rows.values()} == {0}


def test_the_model_of_an_h200_keeps_its_goals(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["macenko"]["model"]["tiles_s"] > 1.5e6
    assert rows["macenko"]["model"]["copies"] < 5
    assert rows["macenko_apply"]["model"]["copies"] < 1.25


def test_a_loop_that_is_not_there_is_said(account: ModuleType) -> None:
    with pytest.raises(ValueError, match="empty: no loop over pixels comes from line 7"):
        account.sass.Kernel("empty").pixel_loop(7, "LDS", 1)
