"""Slides whose readers crash or hang in a process of their own, by their files' names.

``crash`` ends the process after some tiles, ``once`` only the first time, ``hang`` gives no more tiles.
"""

import os
import time
from dataclasses import dataclass
from typing import Any

from pathprep.launchers.base import Progress
from pathprep.streaming import sender
from pathprep.streaming.sender import StreamTask


@dataclass(frozen=True)
class Deadly(StreamTask):
    """As if a library written in C crashed, or a share did not answer, when 5 tiles of the slide are sent."""

    def work(self, progress: Progress) -> Any:
        """Of a worker, which ends after it."""
        stem, add, seen = self.source.path.stem, sender.Sender.add, [0]
        mark = self.root / f".died-{stem}"

        def deadly(own: sender.Sender, tile: Any, row: Any, /) -> None:
            seen[0] += 1
            if seen[0] == 6:
                own._hand_over()  # the run has tiles of it
                if stem == "crash" or (stem == "once" and not mark.exists()):
                    mark.touch()
                    os.abort()
                if stem == "hang":
                    time.sleep(600)
            add(own, tile, row)

        sender.Sender.add = deadly  # type: ignore[method-assign]
        return super().work(progress)
