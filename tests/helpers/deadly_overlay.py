"""An overlay whose slide kills its reader, as a fault in a library written in C does."""

import os
from typing import Any

from pathprep.scores import overlay

_make = overlay._make


def make(task: Any) -> Any:
    """overlay._make, but a slide called ``deadly`` ends the process."""
    if task.source.called == "deadly":
        os.abort()
    return _make(task)
