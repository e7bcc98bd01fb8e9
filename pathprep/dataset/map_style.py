"""Tiles as torch's DataLoader takes them by number. The one module of pathprep that loads torch."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from pathprep.dataset.maps import Prepare, sample_of
from pathprep.dataset.tile import FIT_COLUMNS, checked, decoded
from pathprep.errors import DatasetError

if TYPE_CHECKING:
    from pathprep.dataset.stored import StoredTiles

COLUMNS = ("x", "y", "offset", "length", "crc32")


class MapStyle(Dataset[dict[str, Any]]):
    """What ``StoredTiles.torch`` gives.

    Args:
        data: the tiles.
        prepare: what is done to each.
        slides: only the tiles of these; None for all.
        labels: of slides, instead of the tiles' own.
    """

    def __init__(
        self,
        data: "StoredTiles",
        prepare: Prepare,
        slides: frozenset[str] | None,
        labels: Mapping[str, Any] | None,
    ) -> None:
        self.data, self.prepare, self.labels = data, prepare, labels
        self._whole = len(data)
        self._numbers: npt.NDArray[np.int64] | None = None
        if slides is not None:
            parts = [np.empty(0, np.int64), *(data.numbers_of(name) for name in slides)]
            self._numbers = np.sort(np.concatenate(parts))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_columns", None)  # maps of files, which another process makes for itself
        return state

    def __len__(self) -> int:
        return self._whole if self._numbers is None else len(self._numbers)

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        needs_fits = self.prepare.restain is not None and self.prepare.restain.fit == "stored"
        columns = self.data.columns([*COLUMNS, *(FIT_COLUMNS if needs_fits else ())])
        if len(columns["x"]) != self._whole:
            raise DatasetError(f"{self.data.root}: has changed since it was opened; open it again")
        return columns

    @cached_property
    def _labels(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        return self.data.labels()

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Read a tile.

        Raises:
            IndexError: no tile has this number.
            DatasetError: its bytes are not those that were written (CRC32), or its tar is gone.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.data.root}: no tile {number} of {len(self):,}")
        at = number % len(self)
        tile = at if self._numbers is None else int(self._numbers[at])
        columns, slide, tar = self._columns, self.data.slide_of(tile), self.data.tar_of(tile)
        row: dict[str, Any] = {"slide": slide, **{name: int(columns[name][tile]) for name in COLUMNS}}
        jpeg = checked(self.data._bytes(tar, row["offset"], row["length"]), row, tar, self.data.root)
        pixels = decoded(jpeg, row, f"{self.data.root}/shards/{tar}.tar")
        fit = self.data.fit_at(columns, tile) if "max_c" in columns else None
        sample = sample_of(row, self.prepare(pixels, fit))
        if self.labels is not None:
            sample["label"] = self.labels[slide]
        elif self._labels[1]:
            codes, names = self._labels
            sample["label"] = names[codes[tile]] if codes[tile] >= 0 else None
        return sample
