"""JSON files that may be absent, or damaged."""

from pathlib import Path
from typing import Any

from pathprep.storage.base import parsed


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's content; None if it is absent or not JSON."""
    try:
        return parsed(path.read_bytes())
    except FileNotFoundError:
        return None
