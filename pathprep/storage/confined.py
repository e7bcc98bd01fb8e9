"""Paths that come out of files: a folder that others may write to must not lead out of itself.

Whatever a marker, a table or a list names is looked up with ``inside`` before it is read, linked or deleted.
"""

import os
from pathlib import Path

from pathprep.errors import OutsideError, why


def inside(root: Path, name: str) -> Path:
    """The path of what a file of ``root`` names; it need not exist.

    Args:
        root: the folder. name: relative to it, with ``/`` between its parts.

    Raises:
        OutsideError: it is empty, absolute, climbs with ``..``, holds a NUL, or passes a link out of it.
    """
    path = root / name
    if not name or "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise OutsideError(f"{name!r}: does not name a file in {root}")
    try:
        real, home = os.path.realpath(path), os.path.realpath(root)
    except (OSError, ValueError) as error:  # a loop of links; bytes that no name has
        raise OutsideError(f"{name!r}: does not name a file in {root} ({why(error)})") from None
    if real != home and not real.startswith(f"{home.rstrip('/')}/"):
        raise OutsideError(f"{path}: is a link out of {root}; put the file itself there")
    return path
