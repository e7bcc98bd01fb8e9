"""Folders for one user alone, in places where others may write, such as /tmp."""

import os
import stat
from pathlib import Path

from pathprep.errors import UsageError


def private_folder(path: Path) -> Path:
    """Make a folder that nobody else may look into or write to, or take one that is such already.

    Raises:
        UsageError: there is something else of this name: a link, a file, another user's folder, or one that
            others may use.
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        state = path.lstat()
        if not stat.S_ISDIR(state.st_mode):
            raise UsageError(f"{path}: not a folder, but a private one is needed there; remove it") from None
        if state.st_uid != os.getuid():
            raise UsageError(
                f"{path}: belongs to another user, who could change what is written there; choose another "
                "place"
            ) from None
        if state.st_mode & 0o077:
            try:
                path.chmod(0o700)
            except OSError:
                raise UsageError(f"{path}: others may use it; choose another place") from None
    return path
