"""What the files of a task's data are, without reading them."""

import os
from collections.abc import Iterator
from pathlib import Path


def files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of a file, or of all in a folder but hidden folders, in the order of their names.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    if path.is_dir():
        for folder, inner, names in os.walk(path, followlinks=True):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(names):
                place = Path(folder, name)
                state = place.stat()
                yield str(place.relative_to(path)), state.st_size, state.st_mtime_ns
    else:
        state = path.stat()
        yield path.name, state.st_size, state.st_mtime_ns
