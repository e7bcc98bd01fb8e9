"""An image that kills whoever decodes it, as a fault in a library written in C does."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathprep.dataset.marker import Marker
from pathprep.launchers.base import Progress
from pathprep.tilesets import apart, images
from pathprep.tilesets.items import Item
from pathprep.tilesets.shard import ImportTask


@dataclass(frozen=True)
class Deadly(ImportTask):
    """As if libjpeg crashed at one image; in worker processes only."""

    victim: bytes = b""

    def make(self, progress: Progress) -> Marker:
        """Of a worker, which ends after it."""
        whole = images.decode

        def decode(data: bytes, keep: bool = False, crop: bool = False) -> Any:
            if data == self.victim:
                os.kill(os.getpid(), signal.SIGSEGV)
            return whole(data, keep)

        def kills(root: Path, item: Item, patience: float, crop: bool = False) -> str:
            guilty = (root / item.file).read_bytes() == self.victim
            return f"its decoder crashes (SIGSEGV), {patience:g} s" if guilty else ""

        images.decode, apart.kills = decode, kills
        return super().make(progress)
