"""A survey as the source of a run: tile numbers are positions of the run, each a draw of its own."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from pathprep.storage.local import LocalStorage
from pathprep.surveys.folder import Survey
from pathtrain.data.online.choice import Choice
from pathtrain.data.online.slide_reader import Drawn, Rules, SlideReader
from pathtrain.data.order import Ints
from pathtrain.data.source import DamagedTile, Place, TileSource
from pathtrain.recipes.online import OnlineConfig
from pathtrain.stain.stage import Fits

KEPT = 4096  # places of tiles that are remembered, for messages


class OnlineSource(TileSource):
    """Tiles that are drawn from slides; their numbers are positions.

    Args:
        choice: of slides and MPPs, without those held out.
        record: folder for what the run drops; None keeps nothing.
    """

    def __init__(self, survey: Survey, choice: Choice, online: OnlineConfig, record: Path | None) -> None:
        self.survey, self.choice, self.online, self.record = survey, choice, online, record
        self.storage, self.stain = LocalStorage(survey.root), {"mode": "none"}
        self._drawn: OrderedDict[int, Drawn] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self.choice.tiles[self.choice.weights > 0].sum())

    def order(self, positions: Ints, seed: int) -> Ints:
        return np.asarray(positions, np.int64)

    def rules(self, seed: int) -> Rules:
        """What decides a tile in a run with this seed."""
        online = self.online
        return Rules(seed, online.tile, online.min_tissue, online.hsv, online.tries)

    def note(self, position: int, drawn: Drawn) -> None:
        """Remember where a tile came from."""
        with self._lock:
            self._drawn[position] = drawn
            if len(self._drawn) > KEPT:
                self._drawn.popitem(last=False)

    def drawn(self, position: int) -> Drawn | None:
        """Where the tile at a position came from, if it was drawn lately."""
        with self._lock:
            return self._drawn.get(position)

    def name(self, tile: int) -> str:
        found = self.drawn(tile)
        if found is None:
            return f"position {tile}"
        return f"slide {found.slide}, tile {found.x}_{found.y} at {found.mpp:.3g} MPP"

    def read(self, tile: int) -> bytes:
        """The tile that was drawn at a position lately, for a picture: JPEG."""
        found = self.drawn(tile)
        if found is None:
            raise DamagedTile("was not drawn lately")
        data: bytes = simplejpeg.encode_jpeg(self._again(found), 95, "RGB", "444")
        return data

    def _again(self, drawn: Drawn) -> Any:
        with self._lock:
            reader = SlideReader(self.survey.root, self.survey.contents, self.rules(0))
            try:
                return reader.at(drawn)
            finally:
                reader.close()

    def place(self, tile: int) -> Place:
        raise TypeError("a tile that is drawn from a slide lies in no tar")

    @property
    def has_fits(self) -> bool:
        return False

    def fits(self) -> Fits:
        raise TypeError("tiles that are drawn from slides have no stored fits")
