"""Compiles a kernel's .cu for the CPU and launches it there: see shim.h for what that can show."""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ERRORS = {
    1: "deadlock: the threads of a block wait at different barriers",
    2: "a write beyond the shared memory that was asked for",
    3: "more shared memory than a block can have",
}


class Shim:
    """One .cu file as a library of CPU functions.

    Args:
        source: the file; its kernels are ``extern "C"``.
        kernels: names of those to launch.
        folder: where the library is built.
        defines: preprocessor macros.
    """

    def __init__(
        self, source: Path, kernels: Sequence[str], folder: Path, defines: dict[str, Any] | None = None
    ) -> None:
        library = folder / f"{source.stem}.so"
        wrapper = folder / f"{source.stem}.cpp"
        exports = "".join(f"SHIM_EXPORT({name})\n" for name in kernels)
        text = source.read_text().replace("extern __shared__", "extern")
        wrapper.write_text(f'#include "{HERE / "shim.h"}"\n#line 1 "{source}"\n{text}\n{exports}')
        macros = [f"-D{name}={value}" for name, value in (defines or {}).items()]
        flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-Wno-unknown-pragmas"]
        flags += ["-I", str(source.parent)]
        done = subprocess.run(
            ["g++", *flags, *macros, str(wrapper), "-o", str(library)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        self._library = ctypes.CDLL(str(library))

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
        seed: int = 0,
    ) -> None:
        """Run a kernel to its end.

        Args:
            grid, block: up to three extents.
            arguments: numpy arrays (their addresses are passed), numpy scalars, None for a null pointer.
            shared: bytes of dynamic shared memory.
            seed: another order of the threads for each; 0 is the order of their numbers.
        """
        held = [_argument(value) for value in arguments]
        pointers = (ctypes.c_void_p * max(len(held), 1))(
            *(ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in held)
        )
        extents = [(ctypes.c_uint * 3)(*[*of, 1, 1][:3]) for of in (grid, block)]
        error = self._library[f"shim_{kernel}"](*extents, shared, seed, pointers)
        assert error == 0, f"{kernel}: {ERRORS[error]}"


class ShimDevice:
    """A ``kernels.cuda.Device`` on the CPU: numpy arrays, and a .cu file built by ``Shim``.

    Args:
        shared: bytes of shared memory that a block can have; a small one tests tiles that do not fit.
        seed: see ``Shim.launch``.
    """

    xp = np

    def __init__(self, shim: Shim, shared: int = 232448, seed: int = 0) -> None:
        self._shim, self.shared, self._seed = shim, shared, seed

    def constant(self, values: tuple[float, ...], dtype: Any) -> Any:
        return np.array(values, dtype)

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
    ) -> None:
        assert shared <= self.shared
        self._shim.launch(kernel, grid, block, arguments, shared, self._seed)


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
