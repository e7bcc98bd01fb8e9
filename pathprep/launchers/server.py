"""The process that workers are forked from. It takes a second to load, so it is started first of all."""

import multiprocessing
import os
import signal
import tempfile
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path

from pathprep import interpreter
from pathprep.errors import UsageError

# Bytes of a socket's path on Linux, and of what multiprocessing puts behind its temporary folder
_LONGEST, _BEHIND = 107, len("/pymp-12345678/listener-12345678")


def check_sockets() -> None:
    """Refuse a temporary folder in which worker processes could not be reached.

    Raises:
        UsageError: its path is too long for a socket in it.
    """
    folder, most = tempfile.gettempdir(), _LONGEST - _BEHIND
    if len(os.fsencode(folder)) > most:
        raise UsageError(
            f"{folder}: too long a path for the sockets that worker processes are reached by (at most {most} "
            "bytes); set TMPDIR to a folder with a shorter one, such as /tmp"
        )


def context(*, loaded: bool = True) -> ForkServerContext:
    """The way to start workers: forked from a process that this starts.

    Args:
        loaded: it loads warm.py, unless it runs already.

    Raises:
        UsageError: see ``check_sockets``.
    """
    check_sockets()
    # Slides are the parallelism; a BLAS thread pool in every worker would only wait
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    chosen = multiprocessing.get_context("forkserver")
    if loaded:
        chosen.set_forkserver_preload(["pathprep.sharding.warm"])
    # Ctrl-C is this process's to handle: the server inherits a mask, and while it loads nothing else would
    # keep it from printing a traceback. The tracker comes first, since starting it takes the mask off.
    with interpreter.kept_apart():
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return chosen


def start() -> None:
    """Start it now, so that it loads while this process does; returns at once."""
    context()


def is_cold() -> bool:
    """Whether kernels are still to be compiled, which takes the first run on a machine about a minute."""
    from pathprep.kernels import macenko_cpu

    kernel = macenko_cpu._apply_batch  # the last one that warm.py calls
    stats = getattr(kernel, "stats", None)  # none if numba is told not to compile
    return stats is not None and not any(Path(stats.cache_path).glob("macenko_cpu._apply_batch-*.nbi"))
