"""The CUDA kernels compile for every card that CuPy supports, with the options that CuPy gives them."""

from pathlib import Path
from typing import Any

import pytest

from pathprep.kernels import cuda

SOURCES = sorted(path.name for path in Path(cuda.__file__).parent.glob("*.cu"))
# T4; A100; H100 and H200; B200; RTX 50. Those between have the same instructions
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", SOURCES)
def test_nvrtc_compiles_it(name: str, architecture: str) -> None:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    assert cuda.compiled(name, architecture)[:4] == b"\x7fELF"


def test_what_does_not_compile_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    monkeypatch.setattr(cuda, "source", lambda _name: "__global__ void wrong() { undefined(); }")
    with pytest.raises(ValueError, match='identifier "undefined" is undefined'):
        cuda.compiled("wrong.cu", "sm_90")


def test_the_options_are_those_that_cupy_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = pytest.importorskip("cupy.cuda.compiler", reason="CuPy is not installed")
    found = []

    class Program:
        def __init__(self, source: str, *_arguments: Any, **_options: Any) -> None:
            self.source = source

        def compile(self, options: tuple[str, ...], _log: Any) -> Any:
            if "__global__" in self.source:
                found.append(options)
                raise InterruptedError  # no card to load it on
            return b"", None  # CuPy looks at an empty file for the compiler's version

    monkeypatch.setattr(compiler, "_NVRTCProgram", Program)
    monkeypatch.setattr(compiler, "_preprocess", lambda *_arguments: "")
    monkeypatch.setattr(
        compiler, "_get_arch_for_options_for_nvrtc", lambda arch: (f"-arch=sm_{arch}", "cubin")
    )
    monkeypatch.setattr(compiler.function, "Module", lambda: None)
    monkeypatch.setattr(compiler._kernel_cache_backend, "load", lambda _name: None)
    with pytest.raises(InterruptedError):
        compiler._compile_module_with_cache(cuda.source("macenko.cu"), cuda.OPTIONS, arch="90")
    expected = {*cuda.OPTIONS, *cuda.CUPY_OPTIONS, "-arch=sm_90"}
    assert {option for option in found[0] if option != "--pch"} == expected  # that one only makes it faster
