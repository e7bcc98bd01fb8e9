"""What a run says: a row of JSON per logged step, TensorBoard, Weights & Biases.

log.jsonl holds each logged step once, however often the run was killed: a resume at step s first drops
the rows after s, and the steps are then done and logged again.
"""

import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from pathprep.storage import atomic, regular
from pathtrain.runs import log_seal
from pathtrain.training import row_keys
from pathtrain.training.wandb_board import Wandb

NAME = log_seal.LOG_FILE
log = logging.getLogger(__name__)
Row = dict[str, Any]
# Is told of a run's progress: finished steps, those of the whole run, and the log's row, if there is one. It
# is called before the first step and after each, on rank 0.
Watch = Callable[[int, int, Row | None], None]


def rows(run: Path) -> list[Row]:
    """The run's rows in order; lines that are damaged are named in the log."""
    found, damaged = read(run)
    for number in damaged:
        log.warning("%s: line %d is damaged and left out", run / NAME, number)
    return found


def read(run: Path, *, repeated: bool = False) -> tuple[list[Row], list[int]]:
    """The run's rows in order, and the numbers of damaged lines; a last one that a kill cut off is none.

    Args:
        repeated: take rows whose step was there before, which else are damaged: a part may be there twice.
    """
    if wrong := log_seal.differs(run):
        log.warning("%s", wrong)
    try:
        lines = regular.read(run / NAME).splitlines(keepends=True)
    except FileNotFoundError:
        return [], []
    found: list[Row] = []
    damaged = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line, parse_int=_whole)
        except (ValueError, RecursionError):
            row = None
        if row_keys.is_row(row) and (repeated or not found or row["step"] > found[-1]["step"]):
            found.append(row)
        elif line.endswith(b"\n"):
            damaged.append(number)
    return found, damaged


def _whole(digits: str) -> int | float:
    """A number of the log; infinity if no figure has so many digits."""
    return int(digits) if len(digits) < 20 else float(digits)


class Log:
    """Rows and boards of one run; a context manager.

    Args:
        run: the run's folder.
        start: finished steps now.
        wandb: gets the rows too, and is closed at the end.
    """

    def __init__(self, run: Path, start: int, wandb: Wandb | None = None) -> None:
        self._wandb, self._run = wandb, run
        kept = [row for row in rows(run) if row["step"] <= start] if start else []  # step 0 is done again
        text = "".join(json.dumps(row) + "\n" for row in kept)
        log_seal.remove(run)
        atomic.write_bytes(run / NAME, text.encode())
        self._path = run / NAME
        self._file = self._path.open("a")
        self._board = _Board(run / "tensorboard", start + 1 if start else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wandb is not None:
            self._wandb.close()
        # an error on the way here is the one to be told: a full disk fails these too
        with ExitStack() as closing, suppress(OSError) if error is not None else nullcontext():
            closing.callback(self._close)
            self._board.close()

    def _close(self) -> None:
        with atomic.named(self._path):
            self._file.close()

    def write(self, row: Row) -> None:
        """Log one row: ``step`` (finished steps) and the values; None where there is none."""
        with atomic.named(self._path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        step = int(row["step"])
        for name, value in row.items():
            if name != "step" and value is not None:
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(row)

    def sync(self) -> None:
        """Put the rows on disk; before a checkpoint, which must not be ahead of them."""
        with atomic.named(self._path):
            os.fsync(self._file.fileno())
        log_seal.write(self._run)


class _Board:
    """A file of TensorBoard's. Its own writer puts the machine's name into the file's, this one does not.

    Args:
        folder: made if absent. purge_step: what earlier files say from there on is not shown.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.machine.{os.getpid()}.{secrets.randbelow(10**6)}"
        self._path = folder / name
        self._file = self._path.open("xb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if purge_step:
            self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        self._write(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=float(value))]))

    def _write(self, **values: Any) -> None:
        with atomic.named(self._path):
            self._records.write(Event(wall_time=time.time(), **values).SerializeToString())
            self._file.flush()

    def close(self) -> None:
        """End it."""
        with atomic.named(self._path):
            self._file.close()


class NoLog:
    """What the other ranks have for a log."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def write(self, row: Row) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""
