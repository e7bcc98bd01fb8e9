"""Running the tasks of a run to their end, or to what stops it in order."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Protocol

from pathprep.errors import OutOfMemory, explain_os_error
from pathprep.launchers.base import Board, Launcher, Outcome, Task, is_fatal


class Account(Protocol):
    """The account of a run, as far as it is kept here."""

    seconds: float
    interrupted: bool
    stopped: str


def drive(
    tasks: Sequence[Task[Any]],
    launcher: Launcher,
    board: Board,
    timeout: float | None,
    account: Account,
    record: Callable[[Outcome[Any]], None],
    *,
    shown: Callable[[], None] = lambda: None,
    full: Callable[[], str] = lambda: "",
    disk: Callable[[str], str] = str,
) -> None:
    """Run every task; what ends it early stands in ``account``.

    Args:
        timeout: seconds for one task.
        record: called with every outcome. shown: called a few times a second.
        full: why the run is to stop for lack of space; "" if it is not.
        disk: what to call the disk that a file of this name is on.

    Raises:
        UsageError, DatasetError, OSError: of launcher, tasks and ``record``; a full disk, too little memory
            and Ctrl-C do not raise.
    """
    start, left = time.perf_counter(), len(tasks)
    try:
        account.stopped = full() if left else ""
        with closing(launcher.run([] if account.stopped else tasks, board, timeout)) as outcomes:
            for outcome in outcomes:
                if outcome is not None:
                    record(outcome)
                    left -= 1
                account.seconds = time.perf_counter() - start
                shown()
                if left:
                    account.stopped = full()
                    if account.stopped:
                        break
    except KeyboardInterrupt:
        account.interrupted = True
    except OutOfMemory as error:
        account.stopped = f"{error}; then the same command goes on"
    except OSError as error:
        if not is_fatal(error):
            raise
        error.filename = disk(str(error.filename))
        account.stopped = f"{explain_os_error(error)}; then the same command goes on"
    account.seconds = time.perf_counter() - start
