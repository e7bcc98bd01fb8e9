"""Tiles as they would be under a perturbation."""

import json
from collections.abc import Mapping

import numpy as np

from pathprep.stain import StainFit
from pathtrain.data.whole_tiles import Ints, Tiles
from pathtrain.evaluate.shifts.perturb_kinds import CENTRE, STAINS, Given, centre, perturbed, stains_of
from pathtrain.images import Pixels
from pathtrain.params.perturbation import STRENGTHS
from pathtrain.stain.normaliser import normaliser


class PerturbedTiles(Tiles):
    """The tiles of another source, changed when they are decoded; as they are with strength None.

    A model with a target sees them normalised by a fit of the changed tile, as it would see another scan.

    Args:
        tiles: where from. kind: of STRENGTHS. strength: see perturb_kinds; None changes nothing.
        seed: of the draws, with kind and tile.
        stains: of tiles by number, for the kinds that need them. mpp: of the tiles, if a kind needs it.
    """

    def __init__(
        self,
        tiles: Tiles,
        kind: str,
        strength: float | None,
        seed: int,
        stains: Mapping[int, StainFit],
        mpp: float | None,
    ) -> None:
        self.path, self.groups, self.group, self.kind = tiles.path, tiles.groups, tiles.group, tiles.kind
        self.target = tiles.target
        self.normaliser = normaliser(tiles.target, None)
        self._tiles, self._change, self._strength, self._seed = tiles, kind, strength, seed
        self._number = list(STRENGTHS).index(kind)
        self._stains, self._mpp = stains, mpp
        # what is read says how it is changed: features are kept by the bytes of tiles
        cut = CENTRE if kind == "mpp" else None
        about = [cut] if strength is None else [cut, kind, strength, seed, mpp]
        self._head = json.dumps(about).encode() + b"\n"

    def read(self, tile: int) -> bytes:
        return self._head + self._tiles.read(tile)

    def pixels(self, data: bytes, tile: int) -> Pixels:
        pixels = self._tiles.pixels(data[len(self._head) :], tile)
        if self._strength is None:
            return centre(pixels, CENTRE) if self._change == "mpp" else pixels
        rng = np.random.default_rng([self._seed, self._number, tile])
        return perturbed(pixels, self._change, self._strength, Given(rng, self._stains.get(tile), self._mpp))

    def name(self, tile: int) -> str:
        return self._tiles.name(tile)

    @property
    def fix(self) -> str:
        return self._tiles.fix


def stains(tiles: Tiles, order: Ints, kinds: list[str]) -> tuple[dict[int, StainFit], int]:
    """Tile -> its stains, and how many have none of their own; nothing where no kind needs them."""
    found: dict[int, StainFit] = {}
    foreign = 0
    if set(kinds) & set(STAINS):
        for tile in order.tolist():
            found[tile], own = stains_of(tiles.pixels(tiles.read(tile), tile))
            foreign += not own
    return found, foreign
