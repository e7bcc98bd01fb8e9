"""Tiles' JPEGs, each checked against its CRC32, with damaged ones replaced (damaged_tiles).

A dataset's are read by offset, by threads some steps ahead (a random read of a local tar costs under a
fifth of a sequential one). Those of mixed shards come from DALI's readers.webdataset, and are checked here.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from nvidia.dali.tensors import TensorCPU, TensorListCPU

from pathtrain.data import view_graph
from pathtrain.data.damaged_tiles import Damage
from pathtrain.data.mixed_source import MixedSource
from pathtrain.data.order import Ints
from pathtrain.data.source import DamagedTile, TileSource, wrong

# Threads that read a dataset's tiles, which wait for disks rather than work, and steps that they are ahead
# of DALI
READERS, AHEAD = 8, 2

Pixels = npt.NDArray[np.uint8]


class JpegReader:
    """JPEGs of the tiles that come at positions of the run.

    Args:
        source: of the tiles.
        damage: where damaged tiles are noted, and which says what comes instead.
        places: of a step: positions, and the tiles that come there as far as damage is known.
    """

    def __init__(
        self, source: TileSource, damage: Damage, places: Callable[[int], tuple[Ints, Ints]]
    ) -> None:
        self._source, self._damage, self._places = source, damage, places
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._reading: dict[int, Future[TensorListCPU]] = {}

    def step(self, step: int) -> TensorListCPU:
        """A step's JPEGs, which threads have been reading, as DALI takes them; the next steps' are begun."""
        for ahead in range(step, step + 1 + AHEAD):
            if ahead not in self._reading:
                parts = self._parts(self._read, *self._places(ahead))
                self._reading[ahead] = self._pool.submit(_listed, parts)  # behind them: no thread is blocked
        return self._reading.pop(step).result()

    def check(self, positions: Ints, tiles: Ints, jpegs: list[Pixels]) -> list[Pixels]:
        """JPEGs (B) that another reader gives for tiles (B,), with damaged ones replaced."""
        parts = self._parts(self._check, positions, tiles, np.arange(len(jpegs)), jpegs=jpegs)
        return [jpeg for part in parts for jpeg in part.result()]

    def in_whole_tars(self, source: MixedSource, positions: Ints) -> Ints:
        """Tiles (M,) for positions (M,), none of which its tar ends before."""
        while True:
            tiles = self._damage.tiles(positions)
            cut = tiles[~source.whole(tiles)]
            if not len(cut):
                return tiles
            for tile in np.unique(cut).tolist():
                self._damage.add(tile, "its tar ends too early")

    def blame(self, tiles: Ints, device_id: int | None) -> bool:
        """Note those tiles that cannot be read, or decoded by DALI; whether there are any new ones."""
        known, jpegs = len(self._damage.found), {}
        for tile in np.unique(tiles).tolist():
            try:
                jpegs[tile] = np.frombuffer(self._source.read(tile), np.uint8)
            except DamagedTile as reason:
                self._damage.add(tile, str(reason))
        failed = view_graph.undecodable(list(jpegs.values()), device_id)
        for at, said in failed.items():
            tile = list(jpegs)[at]
            try:  # which says more clearly what is wrong
                simplejpeg.decode_jpeg(jpegs[tile])
            except ValueError as reason:
                said = str(reason)
            self._damage.add(tile, f"cannot be decoded ({said})")
        return len(self._damage.found) > known

    def forget(self) -> None:
        """What was read ahead: it may be what DALI cannot decode."""
        self._reading.clear()

    def close(self) -> None:
        """Stop reading."""
        self._pool.shutdown(cancel_futures=True)

    def _parts(
        self, work: Callable[..., list[Pixels]], *arrays: Ints, **given: Any
    ) -> list[Future[list[Pixels]]]:
        """Work begun on READERS parts of arrays."""
        parts = zip(*(np.array_split(array, READERS) for array in arrays), strict=True)
        return [self._pool.submit(work, *part, **given) for part in parts]

    def _read(self, positions: Ints, tiles: Ints) -> list[Pixels]:
        pairs = zip(positions.tolist(), tiles.tolist(), strict=True)
        return [self._intact(position, tile) for position, tile in pairs]

    def _check(self, positions: Ints, tiles: Ints, which: Ints, jpegs: list[Pixels]) -> list[Pixels]:
        found = []
        for position, tile, at in zip(positions.tolist(), tiles.tolist(), which.tolist(), strict=True):
            if reason := wrong(jpegs[at], self._source.place(tile)):
                self._damage.add(tile, reason)
                found.append(self._intact(position, self._instead(position)))
            else:
                found.append(jpegs[at])
        return found

    def _intact(self, position: int, tile: int) -> Pixels:
        """The JPEG of a tile, or if it is damaged of the one that comes at its position instead."""
        while True:
            try:
                return np.frombuffer(self._source.read(tile), np.uint8)
            except DamagedTile as reason:
                self._damage.add(tile, str(reason))
                tile = self._instead(position)

    def _instead(self, position: int) -> int:
        return int(self._damage.tiles(np.array([position]))[0])


def _listed(parts: list[Future[list[Pixels]]]) -> TensorListCPU:
    """One list for DALI, which takes a millisecond of the caller's for 64 arrays."""
    return TensorListCPU([TensorCPU(jpeg) for part in parts for jpeg in part.result()])
