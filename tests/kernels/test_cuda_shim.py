"""The CPU stand-in for CUDA: what it claims to show, it shows."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.cuda_shim import Shim

SOURCE = """
extern __shared__ __align__(16) unsigned char dynamic_shared[];
struct State { unsigned value; };

// Each block reads shared memory before it writes it
extern "C" __global__ void unwritten(unsigned* out) {
    __shared__ State s;
    __shared__ unsigned char few[4];
    out[3 * blockIdx.x] = s.value;
    out[3 * blockIdx.x + 1] = *(unsigned*)few;
    out[3 * blockIdx.x + 2] = *(unsigned*)dynamic_shared;
    s.value = *(unsigned*)few = *(unsigned*)dynamic_shared = 1;
}

// The first thread publishes a number to the others, with a barrier or without
extern "C" __global__ void published(int barrier, unsigned* out) {
    __shared__ unsigned number;
    if (threadIdx.x == 0) number = 7;
    if (barrier) __syncthreads();
    out[threadIdx.x] = number;
}

extern "C" __global__ void stuck() {
    if (threadIdx.x < 32) __syncwarp(); else __syncthreads();
    if (threadIdx.x == 0) __syncthreads(); else __syncwarp();
}

extern "C" __global__ void overrun(int bytes) { dynamic_shared[bytes] = 1; }
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be built for the CPU")
    folder: Path = tmp_path_factory.mktemp("shim")
    (folder / "claims.cu").write_text(SOURCE)
    return Shim(folder / "claims.cu", ["unwritten", "published", "stuck", "overrun"], folder)


def test_shared_memory_is_poisoned_before_every_block(shim: Shim) -> None:
    found = np.zeros(6, np.uint32)
    shim.launch("unwritten", (2,), (1,), [found], shared=16)
    assert (found == 0xCDCDCDCD).all()


def test_another_order_of_threads_shows_a_missing_barrier(shim: Shim) -> None:
    for barrier, expected in ((1, True), (0, False)):
        found = np.zeros(32, np.uint32)
        shim.launch("published", (1,), (32,), [np.int32(barrier), found], seed=1)
        assert (found == 7).all() == expected


def test_threads_at_different_barriers_are_a_deadlock(shim: Shim) -> None:
    with pytest.raises(AssertionError, match="stuck: deadlock"):
        shim.launch("stuck", (1,), (64,), [])


def test_writes_beyond_the_shared_memory_are_seen(shim: Shim) -> None:
    shim.launch("overrun", (1,), (1,), [np.int32(15)], shared=16)
    with pytest.raises(AssertionError, match="overrun: a write beyond"):
        shim.launch("overrun", (1,), (1,), [np.int32(16)], shared=16)
