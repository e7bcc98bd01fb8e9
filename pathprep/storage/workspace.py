"""Folders on the local disk for what is in work, gone when their owner is: one user's, and one place's."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pathprep.storage import atomic
from pathprep.storage.private import private_folder


def scratch_folder(place: object, chosen: Path | None) -> Path:
    """A folder for one user and one place: runs with other places do not sweep here.

    Args:
        place: what the work is for, such as a URL. chosen: where; None: the system's temporary folder.
    """
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:12]
    return (chosen or Path(tempfile.gettempdir())).absolute() / f"pathprep-{os.getuid()}-{digest}"


@contextmanager
def workspace(scratch: Path, name: str, folders: Iterable[str] = ()) -> Iterator[Path]:
    """A new folder in ``scratch``, removed at the end. A locked file beside it tells that its owner lives.

    It is the user's alone: its name can be foretold, and whoever had made it could change what is written.

    Args:
        folders: that are made in it.

    Raises:
        UsageError: another user has a folder of this name there, or could write to it.
    """
    private_folder(scratch)
    sweep(scratch)
    with atomic.pending(scratch / name) as (_, lock):
        folder = scratch / lock.name.removeprefix(atomic.PREFIX)
        try:
            for part in ("", *folders):
                (folder / part).mkdir(parents=True, exist_ok=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    atomic.discard(lock)


def sweep(scratch: Path) -> None:
    """Remove the workspaces of dead processes."""
    if scratch.is_dir():
        folders = [path for path in scratch.iterdir() if path.is_dir()]  # each is younger than its lock
        atomic.sweep(scratch)
        for folder in folders:
            if not (scratch / f"{atomic.PREFIX}{folder.name}").exists():
                shutil.rmtree(folder, ignore_errors=True)
