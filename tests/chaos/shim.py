"""The C part: compiled when it is needed, loaded before the C library, and armed in a run."""

import ctypes
import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("shim.c")


class Mode(IntEnum):
    """What is done at the call; see shim.c."""

    COUNT = 0
    KILL_ALL = 1
    KILL_ONE = 2
    TORN = 3
    FAIL_ONCE = 4
    FAIL_ON = 5


class Kind(IntFlag):
    """Kinds of calls; see shim.c."""

    CREATE = 1
    WRITE = 2
    SYNC = 4
    CLOSE = 8
    RENAME = 16
    REMOVE = 32
    MKDIR = 64
    ATTR = 128
    OPEN = 256
    READ = 512


CHANGES = Kind(255)
# What the system answers to which calls, and whether to all from then on
ERRORS: dict[int, tuple[Kind, Mode]] = {
    errno.EIO: (CHANGES, Mode.FAIL_ONCE),
    errno.ENOSPC: (Kind.CREATE | Kind.WRITE | Kind.SYNC | Kind.CLOSE | Kind.MKDIR, Mode.FAIL_ON),
    errno.EDQUOT: (Kind.CREATE | Kind.WRITE | Kind.SYNC | Kind.CLOSE | Kind.MKDIR, Mode.FAIL_ON),
    errno.EROFS: (Kind.CREATE | Kind.RENAME | Kind.REMOVE | Kind.MKDIR | Kind.ATTR, Mode.FAIL_ON),
    errno.EACCES: (Kind.CREATE | Kind.RENAME | Kind.REMOVE | Kind.MKDIR | Kind.ATTR, Mode.FAIL_ON),
}


@dataclass(frozen=True)
class Arm:
    """What the shim is to do in a run.

    Attributes:
        roots: folders whose files count. kinds: of calls that count. mode: what to do. at: the call, from 1.
        error: errno of a call that fails.
    """

    roots: Sequence[str]
    kinds: int = CHANGES
    mode: int = Mode.COUNT
    at: int = 0
    error: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "roots": [*self.roots]}


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc")


def build() -> Path:
    """The compiled shim, made once for its source.

    Raises:
        CalledProcessError: it does not compile.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = Path(tempfile.gettempdir()) / f"chaos-shim-{os.getuid()}-{digest}.so"
    if not made.exists():
        command = compiler()
        assert command is not None
        own = made.with_suffix(f".{os.getpid()}")
        subprocess.run([command, "-O1", "-shared", "-fPIC", "-o", own, SOURCE, "-ldl"], check=True)
        own.replace(made)
    return made


def arm(library: str, plan: dict[str, Any], counter: str, log: str) -> None:
    """Arm it in this process, which was started with it preloaded, and in those forked from now on."""
    code = ctypes.CDLL(library).chaos_arm(
        "\n".join(plan["roots"]).encode(),
        counter.encode(),
        log.encode(),
        plan["mode"],
        ctypes.c_long(plan["at"]),
        plan["error"],
        plan["kinds"],
    )
    if code:
        raise RuntimeError("the shim could not be armed")
