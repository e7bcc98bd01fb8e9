"""One training process (or one group of ranks) at a time in a run folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pathprep.errors import BusyError, NoLocksError
from pathprep.storage import locks
from pathtrain.errors import RunBusyError


@contextmanager
def exclusive(run: Path) -> Iterator[None]:
    """Hold a run folder, which is created; the lock goes along if the folder is renamed.

    Raises:
        RunBusyError: another process holds it, or its file system has no locks.
    """
    run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locks.exclusive(run / locks.NAME))
        except BusyError as error:
            raise RunBusyError(
                f"{run}: {error.holder} is training in it; wait for it or stop it, or give another `out`"
            ) from None
        except NoLocksError as error:
            raise RunBusyError(str(error)) from None
        yield
