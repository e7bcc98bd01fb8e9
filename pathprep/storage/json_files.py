"""JSON files that may be absent, or damaged."""

from pathlib import Path
from typing import Any

from pathprep.storage.base import parsed
from pathprep.storage.regular import open_regular


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's content; None if it is absent or not a JSON object.

    Raises:
        OSError: it cannot be read; it names the file.
    """
    try:
        with open_regular(path) as file:
            return parsed(file.read())
    except FileNotFoundError:
        return None
