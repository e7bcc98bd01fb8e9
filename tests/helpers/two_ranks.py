"""A function of a test file on two ranks, in two processes that are not forked: torch has threads."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def run(file: str, function: str, folder: Path) -> None:
    """Call ``function(rank, folder)`` of a test file in two processes at once; what one raises is shown."""
    path = [str(TESTS.parent), str(TESTS)]
    code = f"import runpy; runpy.run_path({file!r})[{function!r}](RANK, {str(folder)!r})"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code.replace("RANK", str(rank))],
            env={
                **os.environ,
                "GLOO_SOCKET_IFNAME": "lo",
                "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
