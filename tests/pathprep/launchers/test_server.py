"""The server that workers are forked from: what keeps it from starting is said before anything is made."""

import os
import tempfile
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

from pathprep.errors import UsageError
from pathprep.launchers import server


@pytest.mark.parametrize("more", [0, 1])
def test_a_long_temporary_folder_is_named(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that is taken is the longest that works."""
    most = server._LONGEST - server._BEHIND
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "x" * (most + more - len(short) - 1))
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        if more:
            with pytest.raises(UsageError, match=f"{folder}: too long a path .* set TMPDIR to"):
                server.check_sockets()
            return
        server.check_sockets()
        inner = Path(tempfile.mkdtemp(prefix="pymp-"))
        with Listener(os.fspath(tempfile.mktemp(prefix="listener-", dir=inner)), "AF_UNIX"):
            pass
