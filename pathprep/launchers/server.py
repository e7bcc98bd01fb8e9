"""The process that workers are forked from. It takes a second to load, so it is started first of all."""

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


def context() -> ForkServerContext:
    """The way to start workers: forked from a process that has warm.py loaded."""
    # Slides are the parallelism; a BLAS thread pool in every worker would only wait
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["pathprep.launchers.warm"])
    return chosen


def start() -> None:
    """Start it now, so that it loads while this process does; returns at once."""
    context()
    forkserver.ensure_running()
