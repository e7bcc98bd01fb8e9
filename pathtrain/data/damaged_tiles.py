"""Tiles that turn out to be damaged while a run reads them: passed over, counted, refused if too many.

In place of a damaged tile comes the tile of the next position of the run, or the one after if that is
damaged too, with the views of the position that lost its tile. So what a step sees follows from the bytes on
disk alone: a rank, or a run that starts again, finds the same damage and comes to the same tiles.
"""

import threading
from dataclasses import dataclass

import numpy as np

from pathprep.words import command, counted
from pathtrain.data.order import Ints
from pathtrain.data.source import TileSource
from pathtrain.errors import TrainError

NAMED = 3  # in a message


@dataclass(frozen=True)
class Damaged:
    """A tile that was passed over: its number, its slide and coordinates, and what is wrong with it."""

    tile: int
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Damage:
    """What one process has found so far; from any thread.

    Args:
        limit: so many damaged tiles are passed over; one more is an error.
    """

    def __init__(self, source: TileSource, seed: int, limit: int) -> None:
        self._source, self._seed, self._limit = source, seed, limit
        self._lock = threading.Lock()
        self._found: dict[int, Damaged] = {}

    @property
    def found(self) -> list[Damaged]:
        """In the order in which they were found."""
        with self._lock:
            return list(self._found.values())

    def add(self, tile: int, reason: str) -> None:
        """Note a damaged tile; again is as once.

        Raises:
            TrainError: it is one too many.
        """
        with self._lock:
            if tile in self._found:
                return
            self._found[tile] = Damaged(tile, self._source.name(tile), reason)
            found = list(self._found.values())
        if len(found) > self._limit:
            shown = "; ".join(map(str, found[:NAMED])) + ("; ..." if len(found) > NAMED else "")
            raise TrainError(
                f"{self._source.said}: {counted(len(found), 'tile is', 'tiles are')} damaged, more "
                "than loader.max_damaged="
                f"{self._limit}: {shown}. See {command('pathprep verify', self._source.home(tile))}, and "
                "`pathprep repair` "
                "makes a dataset's damaged slides again"
            )

    def tiles(self, positions: Ints) -> Ints:
        """Tile numbers (B,) that come at positions (B,), as far as damage is known.

        Raises:
            TrainError: every tile is damaged.
        """
        return self.replaced(positions, self._source.order(positions, self._seed))

    def replaced(self, positions: Ints, tiles: Ints) -> Ints:
        """As ``tiles``, where it is known which ones (B,) the order gives."""
        with self._lock:
            bad = np.fromiter(self._found, np.int64)
        tiles = tiles.copy()
        for at in np.flatnonzero(np.isin(tiles, bad)) if len(bad) else ():
            tiles[at] = self._next(int(positions[at]), bad)
        return tiles

    def _next(self, position: int, bad: Ints) -> int:
        for start in range(position + 1, position + self._source.reach, 1 + len(bad)):
            tiles = self._source.order(np.arange(start, start + 1 + len(bad)), self._seed)
            intact = tiles[~np.isin(tiles, bad)]
            if len(intact):
                return int(intact[0])
        raise TrainError(
            f"{self._source.said}: every tile is damaged; run {command('pathprep verify', self._source.root)}"
        )
