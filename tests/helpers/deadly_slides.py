"""Readers of slides that crash, hang or fail on slides of certain names: what native readers do on bad ones.

``crash...`` ends the process, ``hang...`` never answers, ``fail...`` raises; from the third tile of the slide
on, if the name ends in ``late``.
"""

import os
import time
from collections import Counter
from typing import Any

from pathprep.errors import UnreadableSlide
from pathtrain.data.online import worker
from pathtrain.data.online.slide_reader import Drawn, SlideReader

_read: Counter[str] = Counter()
_draw = SlideReader.draw


def _deadly(self: SlideReader, name: str, *given: Any) -> Drawn:
    _read[name] += 1
    if not name.endswith("late") or _read[name] > 2:
        if name.startswith("crash"):
            os.abort()
        if name.startswith("hang"):
            time.sleep(600)
        if name.startswith("fail"):
            raise UnreadableSlide(f"{name}: cannot be read there")
    return _draw(self, name, *given)


def serve(*given: Any) -> None:
    """worker.serve, with such slides."""
    SlideReader.draw = _deadly  # type: ignore[method-assign]
    worker.serve(*given)
