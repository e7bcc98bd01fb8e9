"""What a run says: a row of JSON per logged step, TensorBoard, and progress on the terminal.

log.jsonl holds each logged step once, however often the run was killed: a resume at step s first drops
the rows after s, and the steps are then done and logged again.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from pathprep.storage import atomic
from pathtrain.training.wandb_board import Wandb

NAME = "log.jsonl"
Row = dict[str, Any]


def rows(run: Path) -> list[dict[str, Any]]:
    """The run's rows in order; a last line that a kill cut off is left out."""
    try:
        lines = (run / NAME).read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Log:
    """Rows, TensorBoard and progress of one run; a context manager.

    Args:
        run: the run's folder.
        start, total: finished steps now and at the end.
        console: where progress goes: a bar on a terminal, a line per row elsewhere.
        wandb: gets the rows too, and is closed at the end.
    """

    def __init__(
        self, run: Path, start: int, total: int, console: Console, wandb: Wandb | None = None
    ) -> None:
        self._total, self._console, self._wandb = total, console, wandb
        kept = [row for row in rows(run) if row["step"] <= start]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        atomic.write_bytes(run / NAME, text.encode())
        self._file = (run / NAME).open("a")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal:
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=console)
            self._task = self._progress.add_task("starting", total=total, completed=start)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        if self._wandb is not None:
            self._wandb.close()
        self._board.close()
        self._file.close()

    def advance(self, step: int) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=step)

    def write(self, row: Row) -> None:
        """Log one row: ``step`` (finished steps) and the values; None where there is none."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        step = int(row["step"])
        for name, value in row.items():
            if name != "step" and value is not None:
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(row)
        text = (
            f"loss {row['loss']:.4f}  lr {row['lr']:.2e}  {row['images_s']:.1f} images/s  "
            f"waiting for data {row['data_wait']:.0%}"
        )
        for name, title, form in (("mfu", "MFU", ".0%"), ("collapse_ratio", "collapse", ".2f")):
            if row.get(name) is not None:
                text += f"  {title} {row[name]:{form}}"
        if self._progress is not None:
            self._progress.update(self._task, description=text)
        else:
            left = (self._total - step) * row["seconds_step"]
            line = f"step {step}/{self._total}  {text}  {_clock(left)} left"
            self._console.print(line, highlight=False, soft_wrap=True)

    def sync(self) -> None:
        """Put the rows on disk; before a checkpoint, which must not be ahead of them."""
        os.fsync(self._file.fileno())


class NoLog:
    """What the other ranks have for a log."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, step: int) -> None:
        """Nothing."""

    def write(self, row: Row) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
