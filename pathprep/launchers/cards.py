"""GPUs for worker processes: finding them without touching them, and giving them out evenly."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pathprep import interpreter
from pathprep.errors import UsageError

# Worker processes on a card: while some read and write, others keep it busy
WORKERS = 4
# Slides that a worker takes before a new one replaces it: CUDA takes about a second to start, and whatever a
# reader leaks must not pile up
SLIDES = 64
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def find(asked: int | None) -> int:
    """How many cards to use: as many as were asked for, None for all that there are.

    Each is tried in a process of its own, about a second for each.

    Raises:
        UsageError: there are fewer, one does not work, or CuPy or nvImageCodec is not installed.
    """
    command = [sys.executable, "-m", "pathprep.tiles.engines.probe", *([] if asked is None else [str(asked)])]
    done = subprocess.run(command, env=interpreter.environment(), capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UsageError(
            f"trying the GPU failed with exit code {done.returncode} ({said}); see nvidia-smi, or leave "
            "`gpus` out"
        ) from None
    if "error" in found:
        raise UsageError(found["error"])
    count: int = found["cards"]
    if asked is not None and asked > count:
        raise UsageError(f"`gpus` {asked}: this machine has {count}; use `gpus` {count} or `gpus` all")
    return asked or count


class Seats:
    """Which card each worker process uses: one seat a process, dealt to the cards in turn.

    A seat is held by a lock on a byte of a file, and the kernel releases it when the process ends, however it
    does: the one that replaces it takes the same seat, and so the same card.

    Args:
        cards: how many.
    """

    def __init__(self, cards: int) -> None:
        self.cards = cards
        handle, name = tempfile.mkstemp(prefix="pathprep-gpus-")
        os.close(handle)
        self.path = Path(name)

    def take(self) -> int:
        """Take a seat for the rest of this process's life: the only card that CUDA shows it from now on.

        Returns:
            The card's number among those that the run may use.
        """
        file = os.open(self.path, os.O_RDWR)  # stays open: closing it would give up the seat
        seat = 0
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, seat)
                break
            except (BlockingIOError, PermissionError):  # taken; POSIX allows either
                seat += 1
        card = seat % self.cards
        names = os.environ.get(_VISIBLE)
        os.environ[_VISIBLE] = names.split(",")[card].strip() if names else str(card)
        return card

    def close(self) -> None:
        """Remove the file; call it when no worker can start any more."""
        self.path.unlink()
