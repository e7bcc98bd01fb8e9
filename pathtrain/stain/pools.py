"""Pooled stain fits of datasets that store none: what a tile falls back to that cannot be fitted alone.

The same tiles are pooled as `pathprep shard` and `import-tiles` pool when they bake: those of the slide;
of imported tiles those of the group within the shard, and of the shard where that gives no fit. A slide is
read once more for it, when the first of its tiles needs it.
"""

import threading
import zlib

import numpy as np

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError
from pathprep.permutation import Ints
from pathprep.stain import StainFit, Status
from pathprep.words import command
from pathtrain.images import Pixels, decode
from pathtrain.stain.target import ModelTarget

AT_A_TIME = 256  # tiles in memory while a slide is fitted: 200 MB at 512 px


class Pools:
    """Pooled fits by slide and group, made when they are first asked for; from any thread.

    Args:
        dataset: made with ``--stain none``.
        how: the options of the fits.
    """

    def __init__(self, dataset: Dataset, how: ModelTarget) -> None:
        self.dataset, self.how = dataset, how
        self._made: dict[str, tuple[StainFit, dict[str, StainFit]]] = {}
        self._lock = threading.Lock()

    def of(self, slide: str, row: int) -> StainFit:
        """The pooled fit (N = 1) for a tile, by its slide and its row there; UNFITTED if there is none.

        Raises:
            DatasetError: a tile of the slide is damaged.
        """
        with self._lock:
            if slide not in self._made:
                self._made[slide] = self._make(slide)
            whole, groups = self._made[slide]
        if not groups:
            return whole
        group = self.dataset.table(slide, ["group"])["group"][row].as_py() or ""
        return groups.get(group, whole)

    def _make(self, slide: str) -> tuple[StainFit, dict[str, StainFit]]:
        names = ["x", "y", "offset", "length", "crc32", "group"]
        rows = self.dataset.table(slide, names).to_pylist()
        fits = []
        for start in range(0, len(rows), AT_A_TIME):
            tiles = [self._pixels(slide, row) for row in rows[start : start + AT_A_TIME]]
            how = self.how
            fits.append(stain.fit(tiles, keep=how.keep, alpha=how.alpha, beta=how.beta, io=how.io))
        every = StainFit.join(fits)
        if self.dataset.kind != "tiles":
            return stain.pool(every), {}
        members: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            if row["group"]:
                members.setdefault(row["group"], []).append(number)
        pooled = {group: stain.pool(_take(every, np.array(some))) for group, some in members.items()}
        usable = {group: fit for group, fit in pooled.items() if fit.status[0] == Status.FITTED}
        return stain.pool(every), usable

    def _pixels(self, slide: str, row: dict[str, int]) -> Pixels:
        data = self.dataset.read(slide, row["offset"], row["length"])
        name = f"{self.dataset.root}/shards/{slide}.tar: tile {row['x']}_{row['y']}"
        if zlib.crc32(data) != row["crc32"]:
            raise DatasetError(f"{name}: damaged (CRC); run {command('pathprep verify', self.dataset.root)}")
        return decode(data, name)


def _take(fits: StainFit, rows: Ints) -> StainFit:
    return StainFit(fits.he[rows], fits.max_c[rows], fits.tissue_pixels[rows], fits.status[rows])
