"""Being asked to stop: SIGTERM (a scheduler), SIGUSR1 (Slurm's --signal, before the time limit).

The step in work is finished and a checkpoint written; the command then exits with a code of its own, so
that a job script can tell "run me again" from "failed" and "finished".
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again later
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequests:
    """Notes the signals while it is entered, instead of dying of them.

    Attributes:
        received: the name of the last one, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids it
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
