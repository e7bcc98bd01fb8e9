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


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    monkeypatch.syspath_prepend(str(BENCH))
    for name in ("kernel_account", "sass", "machine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        importlib.import_module("sass").tool("nvdisasm")
    except (ImportError, FileNotFoundError):
        pytest.skip("triton, whose package has the disassembler, is not installed")
    return importlib.import_module("kernel_account")


def test_no_kernel_is_worse_than_it_was(account: ModuleType) -> None:
    """One test, since compiling takes some seconds."""
    files = ("macenko.cu", "macenko_apply.cu", "tiling.cu")
    rows: dict[str, Any] = {row["kernel"]: row for row in account.accounts(["sm_90"], files)}
    for kernel, (registers, spills, in_flight, resident, passes) in HELD.items():
        row = rows[kernel]
        assert row["registers"] <= registers, kernel
        assert row["spills"] <= spills, kernel
        assert row["spills_in_passes"] == 0, kernel
        assert row["loads_in_flight"] >= in_flight, kernel
        assert row["resident"] >= resident, kernel
        assert row["instructions_a_pixel"].keys() == passes.keys()
        for name, most in passes.items():
            assert row["instructions_a_pixel"][name] <= most, f"{kernel}, {name}"
    # what the model makes of them keeps the goals
    assert rows["macenko"]["model"]["tiles_s"] > 1.5e6
    assert rows["macenko"]["model"]["copies"] < 5
    assert rows["macenko_apply"]["model"]["copies"] < 1.25


def test_a_loop_that_is_not_there_is_said(account: ModuleType) -> None:
    with pytest.raises(ValueError, match="empty: no loop over pixels comes from line 7"):
        account.sass.Kernel("empty").pixel_loop(7, "LDS", 1)
