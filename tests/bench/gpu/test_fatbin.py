"""Device code of other architectures is zeroed, and nothing else changes."""

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

PTX, CODE = 1, 2
HEADER = 64


def entry(kind: int, architecture: int, code: bytes) -> bytes:
    head = bytearray(HEADER)
    struct.pack_into("<HHIQ", head, 0, kind, 0x101, HEADER, len(code))
    struct.pack_into("<I", head, 28, architecture)
    return bytes(head) + code


def record(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


@pytest.fixture
def fatbin(scripts: dict[str, ModuleType]) -> ModuleType:
    return scripts["fatbin"]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A shared library with two records, between them what is aligned to 8 bytes, and a function."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    one = record(entry(CODE, 80, b"\x01" * 96), entry(CODE, 90, b"\x02" * 120), entry(PTX, 90, b"\x03" * 56))
    two = record(entry(CODE, 90, b"\x04" * 16))
    text = ",".join(str(byte) for byte in one + bytes(16) + two)
    source = tmp_path / "lib.c"
    source.write_text(
        f'__attribute__((section(".nv_fatbin"), aligned(8))) const unsigned char code[] = {{{text}}};\n'
        "int answer(void) { return 42; }\n"
    )
    path = tmp_path / "lib.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, source], check=True)
    return path


def test_one_architecture_is_kept_as_it_was(fatbin: ModuleType, library: Path) -> None:
    before = library.read_bytes()
    assert fatbin.keep_only(library, 90) == (136, 152)
    after = library.read_bytes()
    assert len(after) == len(before)
    assert after == before.replace(b"\x01" * 96, bytes(96)).replace(b"\x03" * 56, bytes(56))
    assert ctypes.CDLL(str(library)).answer() == 42


def test_a_library_without_that_architecture_stays_as_it_is(fatbin: ModuleType, library: Path) -> None:
    before = library.read_bytes()
    assert fatbin.keep_only(library, 120) == (0, 0)
    assert library.read_bytes() == before


def test_other_files_are_refused(fatbin: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("INPUT(libother.so)")
    with pytest.raises(ValueError, match="not a 64-bit little-endian ELF file"):
        fatbin.keep_only(tmp_path / "text.so", 90)
