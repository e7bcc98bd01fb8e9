"""Compiling and launching this package's CUDA kernels, through CuPy and NVRTC.

A launcher takes a ``Device``: ``Module`` on a GPU; under test, the same two members on numpy arrays and a
CPU build of the same source.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

OPTIONS = ("--std=c++17",)
# What CuPy adds of its own to a RawModule's options (cupy/cuda/compiler.py): results may depend on the first
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
PLAIN_SHARED = 48 * 1024  # bytes that a block can have on any GPU


class Device(Protocol):
    """Where a .cu file's kernels run.

    Attributes:
        xp: the module of its arrays, cupy or numpy.
        shared: bytes of shared memory that a block can have there.
    """

    @property
    def xp(self) -> Any: ...
    @property
    def shared(self) -> int: ...
    def constant(self, values: tuple[float, ...], dtype: Any) -> Any:
        """A read-only array of these values, kept for good; the first call for them waits for the GPU."""

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
    ) -> None:
        """Queue a kernel on the current stream.

        Args:
            arguments: arrays, numpy scalars, or None for a null pointer.
            shared: bytes of dynamic shared memory.
        """


class Module:
    """A .cu file of this folder on CuPy's current device, compiled when it is first launched."""

    def __init__(self, name: str) -> None:
        import cupy

        self.xp = cupy
        self._source = source(name)
        self._constants: dict[Any, Any] = {}
        self._shared: dict[int, int] = {}
        self._functions: dict[tuple[int, str], Any] = {}
        self._lock = Lock()

    @property
    def shared(self) -> int:
        runtime, number = self.xp.cuda.runtime, self.xp.cuda.Device().id
        if number not in self._shared:
            attribute = runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin
            self._shared[number] = runtime.deviceGetAttribute(attribute, number)
        return self._shared[number]

    def constant(self, values: tuple[float, ...], dtype: Any) -> Any:
        key = self.xp.cuda.Device().id, values, dtype
        if key not in self._constants:
            array = self.xp.asarray(np.array(values, dtype))
            self.xp.cuda.get_current_stream().synchronize()  # once: other streams will read it
            self._constants[key] = array
        return self._constants[key]

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
    ) -> None:
        values = tuple(np.uint64(0) if value is None else value for value in arguments)
        self._function(kernel)(tuple(grid), tuple(block), values, shared_mem=shared)

    def _function(self, kernel: str) -> Any:
        """A kernel on the current device, allowed all the shared memory there is, once and for all: a limit
        that followed each call's need might be lowered by one thread just before another's launch."""
        key = self.xp.cuda.Device().id, kernel
        with self._lock:
            if key not in self._functions:
                module = self.xp.RawModule(code=self._source, options=OPTIONS)
                function = module.get_function(kernel)
                function.max_dynamic_shared_size_bytes = self.shared - function.shared_size_bytes
                self._functions[key] = function
            return self._functions[key]


@lru_cache
def module(name: str) -> Module:
    """The module of a .cu file, made once."""
    return Module(name)


def source(name: str) -> str:
    """The text of a .cu file of this folder, with what it includes: CuPy's cache of compiled kernels looks at
    the text only, and would not notice a change in a file beside it."""
    text = (Path(__file__).parent / name).read_text()
    return re.sub(r'^#include "(.+)"$', lambda found: source(found[1]), text, flags=re.MULTILINE)


def compiled(name: str, architecture: str, *options: str) -> bytes:
    """What CuPy would make of a .cu file for an architecture such as ``sm_90``: a cubin. Needs no GPU; for
    tests, and for the account of instructions and registers in bench/.

    Args:
        options: more of NVRTC's, such as ``-lineinfo``.

    Raises:
        ValueError: it does not compile; the text is the compiler's.
    """
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source(name), name, (), ())
    try:
        nvrtc.compileProgram(program, (*OPTIONS, *CUPY_OPTIONS, f"-arch={architecture}", *options))
        cubin: bytes = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError:
        raise ValueError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)
    return cubin + b"\0"  # CuPy takes it for a string and drops its last byte
