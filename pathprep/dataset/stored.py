"""What datasets and mixed shards share: tars of tiles, which are read at random or streamed."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pathprep.dataset.maps import Prepare, Restain, Transform
from pathprep.dataset.schema import STATUSES
from pathprep.dataset.tile import Part, Tiles, checked, fit_of, read_tar
from pathprep.errors import UsageError
from pathprep.stain import StainFit
from pathprep.storage.place import storage_at
from pathprep.words import counted

if TYPE_CHECKING:
    from webdataset import FluidWrapper

    from pathprep.dataset.map_style import MapStyle

# Slides' or shards' tables that are kept for reading tiles one at a time: some MB each
TABLES = 8
# Tiles that a stream holds to draw from: some MB of JPEGs
SHUFFLE = 1000


class StoredTiles(Tiles):
    """Tiles in the tars of a folder or URL.

    Args:
        root: the folder, or a URL that fsspec knows.

    Attributes:
        root: the folder or URL. storage: its files.
        info: what its JSON file says. params: what shaped the pixels.
    """

    info: dict[str, Any]
    params: dict[str, Any]

    def __init__(self, root: PurePath | str) -> None:
        self.storage = storage_at(root)
        self.root = self.storage.root

    def __reduce__(self) -> tuple[type[Self], tuple[PurePath]]:
        return type(self), (self.root,)  # opened anew in another process

    @property
    @abstractmethod
    def has_fits(self) -> bool:
        """Whether each tile is stored with its fit, or with the mark that it has none."""

    @abstractmethod
    def tars(self) -> list[str]:
        """Names of the tars that hold tiles, without folder and suffix, in their order."""

    @abstractmethod
    def tars_of(self, slides: Collection[str]) -> list[str]:
        """Names of the tars that may hold tiles of these slides, in their order."""

    @abstractmethod
    def numbers_of(self, slide: str) -> npt.NDArray[np.int64]:
        """Numbers of a slide's tiles, rising.

        Raises:
            UsageError: no such slide; the message says which name is nearest.
        """

    @abstractmethod
    def tar_rows(self, tar: str) -> pa.Table:
        """The index of a tar, in the order of its samples.

        Its columns are ``key`` (of the sample), ``slide`` (its name), x, y, offset, length, crc32,
        FIT_COLUMNS if it ``has_fits``, and ``label`` if there are any.
        """

    @abstractmethod
    def columns(self, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        """Columns of all tiles as arrays, as TileIndex has them."""

    @abstractmethod
    def labels(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """The labels of tiles that were imported.

        Returns:
            (N,) the number of each tile's label in the list, -1 where it has none; and the labels, sorted.
        """

    @abstractmethod
    def tar_of(self, number: int) -> str:
        """Name of the tar that holds a tile."""

    def read(self, tar: str, offset: int, length: int) -> bytes:
        """Bytes of a tar (of a dataset's slide, or a mixed shard); a tile's are compared with its CRC32.

        Args:
            tar: without folder and suffix. offset, length: of a tile, as the table has them, or any others,
                which nothing vouches for.

        Raises:
            DatasetError: the tar is gone or shorter than that, or the tile is not as it was written.
        """
        data = self._bytes(tar, offset, length)
        table = self._places_in(tar)
        at = int(np.searchsorted(table["offset"].to_numpy(), offset))
        rows = table.slice(at, 1).to_pylist()
        if rows and (rows[0]["offset"], rows[0]["length"]) == (offset, length):
            checked(data, rows[0], tar, self.root)
        return data

    def _bytes(self, tar: str, offset: int, length: int) -> bytes:
        """As ``read``, for who compares the CRC32 itself."""
        return read_tar(self.storage, tar, offset, length)

    @cached_property
    def _places_in(self) -> Callable[[str], pa.Table]:
        """Place, length and CRC32 of a tar's tiles in the order of their offset, of the last few tars."""

        def rows(tar: str) -> pa.Table:
            return self.tar_rows(tar).select(["x", "y", "offset", "length", "crc32"]).sort_by("offset")

        return lru_cache(TABLES)(rows)  # a cache of the class would keep every dataset alive

    def slide(self, name: str) -> Tiles:
        """The tiles of one slide, in the order in which they lie.

        Raises:
            UsageError: no such slide; the message says which name is nearest.
        """
        return Part(self, self.numbers_of(name).tolist())

    def close(self) -> None:
        """Close the tars that reads have opened."""
        self.storage.close()

    def fit_at(self, columns: Mapping[str, npt.NDArray[Any]], number: int) -> StainFit | None:
        """The fit of a tile, from FIT_COLUMNS as ``columns`` gives them."""
        max_c = columns["max_c"][number]
        row = {
            "stain_status": STATUSES[int(columns["stain_status"][number])],
            "he": columns["he"][number],
            "max_c": None if np.isnan(max_c[0]) else max_c,
        }
        return fit_of(row, self.params["stain"])

    def webdataset(
        self,
        *,
        shuffle: int = SHUFFLE,
        seed: int = 0,
        slides: Iterable[str] | None = None,
        labels: Mapping[str, Any] | None = None,
        stain: Restain | None = None,
        transform: Transform | None = None,
    ) -> "FluidWrapper":
        """Stream the tiles, as a pipeline of the webdataset package for a plain PyTorch loop.

            data = pathprep.open("mixed").webdataset(transform=to_tensor).batched(64)
            for batch in torch.utils.data.DataLoader(data, batch_size=None, num_workers=8): ...

        Tars are shared out over nodes (RANK and WORLD_SIZE, or torch.distributed) and workers: each tile
        comes once an epoch, in one of them. Some have nothing to do if there are fewer tars than that, and
        shares differ in length; for steps in lockstep, add ``.repeat().with_epoch(steps)``. A dataset has a
        tar for each slide, so tiles that come one after the other are alike: mix it first (`pathprep mix`).

        Each sample is a dict: ``jpg`` (H, W, 3) uint8, or what ``transform`` made of it; ``slide``, ``x``,
        ``y``; ``label`` if there are labels; ``__key__``, ``<slide>__<x>_<y>``, and ``__url__``. All that
        webdataset's pipelines can do can follow: ``.to_tuple("jpg", "label")``, ``.select(...)``.

        Args:
            shuffle: tiles that are held to draw from; 0 keeps the order of the tars and of their tiles.
            seed: of the order and of jitter. The next epoch of the same pipeline in the same process takes
                the next order; workers that are started anew for each epoch begin again: give another seed.
            slides: only the tiles of these.
            labels: of slides, by name; instead of the tiles' own.
            stain: what is done to the stain.
            transform: of each decoded tile.

        Raises:
            UsageError: no such slide, a slide without a label, or tiles that ``stain`` cannot be done to.
            DatasetError: on iteration, a tile is damaged (CRC32), or a tar is gone.
        """
        from pathprep.dataset.stream import stream  # webdataset loads torch

        chosen = self._chosen(slides, labels)
        return stream(self, self._prepare(stain, transform, seed), shuffle, seed, chosen, labels)

    def torch(
        self,
        *,
        seed: int = 0,
        slides: Iterable[str] | None = None,
        labels: Mapping[str, Any] | None = None,
        stain: Restain | None = None,
        transform: Transform | None = None,
    ) -> "MapStyle":
        """Give the tiles as a map-style ``torch.utils.data.Dataset``, for random access by a DataLoader.

            data = pathprep.open("dataset").torch(labels={"A": 0, "B": 1})
            loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True, num_workers=8)

        Samples are those of ``webdataset``, without ``__url__``; arguments and errors too. ``seed`` is that
        of jitter. Each worker opens the files that it reads. The first time, a dataset of many slides
        gathers its index.

        Raises:
            UsageError: torch is not installed; or as in ``webdataset``.
        """
        try:
            from pathprep.dataset.map_style import MapStyle
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{error}; it comes with the extra train: pip install 'pathprep[train]'"
            ) from None
        chosen = self._chosen(slides, labels)
        return MapStyle(self, self._prepare(stain, transform, seed), chosen, labels)

    def _prepare(self, stain: Restain | None, transform: Transform | None, seed: int) -> Prepare:
        if stain is not None:
            stain.check(self.root, self.params["stain"], self.has_fits)
        return Prepare(self.params["stain"], stain, transform, seed)

    def _chosen(
        self, slides: Iterable[str] | None, labels: Mapping[str, Any] | None
    ) -> frozenset[str] | None:
        """The slides that were asked for, None for all; checked against those that there are."""
        chosen = None if slides is None else frozenset(slides)
        for name in sorted(chosen or ()):
            self.numbers_of(name)
        if labels is not None:
            without = [name for name in sorted(chosen or self.slides) if name not in labels]
            if without:
                raise UsageError(
                    f"`labels` has none for {counted(len(without))} of {self.root}: "
                    f"{', '.join(without[:3])}; "
                    "give them too, or choose `slides`"
                )
        return chosen


def encoded(labels: Sequence[pa.ChunkedArray]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Texts as numbers: each one's place in the sorted list of all, -1 where it is null; and that list."""
    chunks = [chunk for part in labels for chunk in part.cast(pa.string()).chunks]
    texts = pa.chunked_array(chunks, pa.string())
    names: list[str] = sorted(texts.unique().drop_null().to_pylist())
    codes = pc.index_in(texts, value_set=pa.array(names, pa.string())).fill_null(-1)
    return codes.to_numpy().astype(np.int32), names
