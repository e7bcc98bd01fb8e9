"""A process that reads slides for a run: jobs come through a pipe, pixels go through shared memory.

A slide's native reader may crash it or hang in it; the pool then knows by which slide, and starts another.
"""

import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import PathprepError, explain_os_error
from pathtrain.data.online.slide_reader import Drawn, Rules, SlideReader


@dataclass(frozen=True)
class Job:
    """A tile to read: at a ``position`` of the run, in its draw of this ``number``, from a ``slide``."""

    position: int
    number: int
    slide: str
    mpp: float


def serve(
    pipe: Connection, memory: Any, slots: int, root: Path, contents: dict[str, str], rules: Rules
) -> None:
    """Answer lists of jobs, each with a Drawn or with words on what is wrong, until the pipe is closed.

    Args:
        memory: of ``slots`` tiles; the tile of a list's job i is written to slot i.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tiles = np.frombuffer(memory, np.uint8).reshape(slots, rules.tile, rules.tile, 3)
    reader = SlideReader(root, contents, rules)
    while True:
        try:
            jobs: list[Job] = pipe.recv()
            for slot, job in enumerate(jobs):
                pipe.send(_answer(reader, job, tiles[slot]))
        except (EOFError, OSError):  # the run is over
            return


def _answer(reader: SlideReader, job: Job, out: Any) -> Drawn | str:
    try:
        return reader.draw(job.slide, job.mpp, job.position, job.number, out)
    except PathprepError as error:
        return str(error)
    except OSError as error:
        return explain_os_error(error, reading=True)
    except Exception as error:  # whatever a library raises on a damaged slide costs that slide
        return f"{job.slide}: {type(error).__name__}: {error}"
