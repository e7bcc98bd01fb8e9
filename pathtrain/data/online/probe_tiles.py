"""Tiles for probes of a run that is trained straight from slides: drawn once, at keyed places, and kept.

They are the same each time the run is taken up. They are PNG in memory, 0.15 MB a tile of 256 px.
"""

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image

from pathprep.errors import UsageError
from pathprep.surveys.folder import Survey
from pathprep.words import counted
from pathtrain.data.online.choice import Choice
from pathtrain.data.online.pool import Failed, ReaderPool
from pathtrain.data.online.slide_reader import Drawn, Rules
from pathtrain.data.online.worker import Job
from pathtrain.data.order import Ints, hashed
from pathtrain.data.whole_tiles import Tiles
from pathtrain.recipes.online import OnlineConfig

_PROBES = 0x70726F626573  # keeps their draws apart from training's
AT_A_TIME = 64


@dataclass(frozen=True)
class _Kept:
    png: bytes
    drawn: Drawn


class DrawnTiles(Tiles):
    """Tiles of a survey's slides; a group is a slide.

    Args:
        slides: (N) names, one for each tile; of tiles at MPPs that the slides give, by their shares.
        seed: the same gives the same tiles.
        readers: processes that read them.

    Raises:
        UsageError: no slide gives any.
    """

    kind = "slide"

    def __init__(
        self,
        survey: Survey,
        choice: Choice,
        online: OnlineConfig,
        slides: Sequence[str],
        seed: int,
        readers: int,
    ) -> None:
        self.path: PurePath = survey.root
        key = int(hashed(seed, _PROBES)[0] >> np.uint64(1))
        rules = Rules(key, online.tile, online.min_tissue, online.hsv, online.tries)
        pool = ReaderPool(survey.root, survey.contents, rules, readers, online.timeout)
        try:
            self._kept = _read(pool, choice, slides, online.tile, key)
        finally:
            self.left = dict(pool.bad)
            pool.close()
        if not self._kept:
            why = next(iter(self.left.values()), "there are none")
            raise UsageError(f"{survey.root}: no slide gives tiles for a probe ({why})")
        names = [kept.drawn.slide for kept in self._kept]
        self.groups = sorted(set(names))
        numbers = {name: number for number, name in enumerate(self.groups)}
        self.group = np.array([numbers[name] for name in names], np.int64)

    def read(self, tile: int) -> bytes:
        return self._kept[tile].png

    def name(self, tile: int) -> str:
        drawn = self._kept[tile].drawn
        return f"slide {drawn.slide}, tile {drawn.x}_{drawn.y} at {drawn.mpp:.3g} MPP"

    @property
    def fix(self) -> str:
        return "start the run again"

    def counts(self) -> dict[str, int]:
        """Tiles of each slide."""
        return dict(zip(self.groups, np.bincount(self.group).tolist(), strict=True))

    def members(self, names: Collection[str]) -> dict[str, Ints]:
        """Tile numbers, rising, of some slides."""
        return {
            name: np.flatnonzero(self.group == number)
            for number, name in enumerate(self.groups)
            if name in names
        }

    def groups_of(self, tiles: Ints) -> Ints:
        """(B,) the slide of each of some tiles (B,)."""
        return self.group[tiles]

    @property
    def said(self) -> Sequence[str]:
        """What the user should know of them, a line each."""
        lines = [f"{counted(len(self), 'tile')} drawn from {counted(len(self.groups))}"]
        return [*lines, *(f"left out slide {slide}: {reason}" for slide, reason in self.left.items())]


def _read(pool: ReaderPool, choice: Choice, slides: Sequence[str], tile: int, key: int) -> list[_Kept]:
    places = {name: number for number, name in enumerate(choice.slides)}
    kept = []
    for start in range(0, len(slides), AT_A_TIME):
        some = slides[start : start + AT_A_TIME]
        positions = np.arange(start, start + len(some))
        mpps = choice.mpps_of(np.array([places[name] for name in some]), positions, key)
        pixels = np.empty((len(some), tile, tile, 3), np.uint8)
        jobs = [
            Job(position, 0, name, choice.mpps[mpp])
            for position, name, mpp in zip(positions.tolist(), some, mpps.tolist(), strict=True)
        ]
        waiting = [pool.submit(job, out) for job, out in zip(jobs, pixels, strict=True)]
        for future, picture in zip(waiting, pixels, strict=True):
            answer = future.result()
            if not isinstance(answer, Failed):
                kept.append(_Kept(_png(picture), answer))
    return kept


def _png(pixels: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
