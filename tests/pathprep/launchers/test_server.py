"""The server that workers are forked from: what keeps it from starting is said before anything is made."""

import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

from pathprep import interpreter
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


def test_no_code_of_the_current_folder_is_run(tmp_path: Path) -> None:
    """It may be full of somebody else's files, and a module among them would run with the user's rights."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os\nfrom pathprep.launchers import server\n"
        "if __name__ == '__main__':\n"
        "    before = dict(os.environ)\n"
        "    process = server.context(loaded=False).Process(target=os.getpid)\n"
        "    process.start()\n    process.join()\n"
        "    assert process.exitcode == 0\n"
        "    assert before == {name: os.environ[name] for name in before}\n"
        "    assert 'PYTHONSAFEPATH' not in os.environ\n"
    )
    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "multiprocessing.py").write_text("raise SystemExit('ran')\n")
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_start_at_once_leave_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    meet = threading.Barrier(2, timeout=0.5)

    def start(_: int) -> None:
        with interpreter.kept_apart(), suppress(threading.BrokenBarrierError):
            meet.wait()  # both are in it, if nothing keeps the second out

    before = dict(os.environ)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(start, range(2)))
    assert dict(os.environ) == before
    assert meet.broken
