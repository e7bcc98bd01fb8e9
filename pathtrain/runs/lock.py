"""One training process (or one group of ranks) at a time in a run folder.

The lock is flock on RUN/.lock: the system drops it when its holder dies, whatever it died of, so there is
nothing to clean up after a kill.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pathtrain.errors import RunBusyError

NAME = ".lock"


@contextmanager
def exclusive(run: Path) -> Iterator[None]:
    """Hold a run folder, which is created; the lock goes along if the folder is renamed.

    Raises:
        RunBusyError: another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / NAME).open("a+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunBusyError(
                f"{run}: {holder} is training in it; wait for it or stop it, or give another `out`"
            ) from None
        except OSError as error:  # Lustre without flock, for one
            raise RunBusyError(
                f"{run}: its file system has no locks ({error.strerror}), without which two processes could "
                "train in it at once; give an `out` on another one, or mount it with flock"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
