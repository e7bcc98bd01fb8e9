"""Launching kernels, with a stand-in for CuPy: what is asked of it, and in which order."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pathprep.kernels import cuda

MOST, STATIC = 232448, 304


class Function:
    """A kernel as CuPy has it; refuses launches as the driver does."""

    shared_size_bytes = STATIC

    def __init__(self) -> None:
        self.limits = [cuda.PLAIN_SHARED]

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self.limits[-1]

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value: int) -> None:
        assert value + STATIC <= MOST
        self.limits.append(value)

    def __call__(self, _grid: Any, _block: Any, _values: Any, shared_mem: int) -> None:
        assert shared_mem <= self.limits[-1]


@pytest.fixture
def functions() -> dict[tuple[int, str], Function]:
    """Of each device and kernel."""
    return {}


@pytest.fixture
def module(functions: dict[tuple[int, str], Function]) -> cuda.Module:
    """Of macenko.cu; ``xp.now`` is the number of the current device."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    made = cuda.Module("macenko.cu")

    def raw(**_options: Any) -> Any:
        return SimpleNamespace(
            get_function=lambda name: functions.setdefault((made.xp.now, name), Function())
        )

    runtime = SimpleNamespace(
        cudaDevAttrMaxSharedMemoryPerBlockOptin=97, deviceGetAttribute=lambda _attribute, _number: MOST
    )
    device = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=made.xp.now))
    made.xp = SimpleNamespace(now=0, cuda=device, RawModule=raw)
    return made


def test_the_limit_of_shared_memory_never_follows_a_call(
    module: cuda.Module, functions: dict[tuple[int, str], Function]
) -> None:
    needs = [MOST - STATIC, 1000, 60_000, MOST - STATIC] * 25
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda need: module.launch("macenko", (1,), (1,), [], need), needs))
    module.launch("other", (1,), (1,), [])
    module.xp.now = 1
    module.launch("macenko", (1,), (1,), [], 60_000)
    assert sorted(functions) == [(0, "macenko"), (0, "other"), (1, "macenko")]
    assert all(function.limits == [cuda.PLAIN_SHARED, MOST - STATIC] for function in functions.values())
