"""The two commands in this process, with a limit on time: what a user sees of them."""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

from pathprep.cli import main as pathprep_main
from pathtrain.cli import main as pathtrain_main

SECONDS = 60


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """All that it said."""
        return self.out + self.err


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """A block that must end in time.

    Raises:
        AssertionError: it did not.
    """

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def command(*words: object, cwd: Path | None = None, seconds: int = SECONDS) -> Done:
    """Run `pathprep ...` or `pathtrain ...`; an exception that is no exit is the caller's."""
    out, err = io.StringIO(), io.StringIO()
    stop = signal.getsignal(signal.SIGTERM)
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
        within(seconds),
    ):
        patch.setattr(sys, "argv", [str(word) for word in words])
        if cwd is not None:
            patch.chdir(cwd)
        try:
            (pathtrain_main if words[0] == "pathtrain" else pathprep_main)()
        finally:
            signal.signal(signal.SIGTERM, stop)
        raise SystemExit(0)
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())
