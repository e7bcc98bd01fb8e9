"""A webdataset pipeline over the tars of a dataset or of mixed shards. webdataset loads torch if it can."""

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import webdataset as wds
from webdataset.filters import pipelinefilter
from webdataset.tariterators import group_by_keys, tar_file_expander

from pathprep.dataset.maps import Prepare, key_of, sample_of
from pathprep.dataset.tile import checked, decoded, fit_of
from pathprep.errors import DatasetError
from pathprep.words import command, counted

if TYPE_CHECKING:
    from pathprep.dataset.stored import StoredTiles

Sample = dict[str, Any]


def stream(
    data: "StoredTiles",
    prepare: Prepare,
    shuffle: int,
    seed: int,
    slides: frozenset[str] | None,
    labels: Mapping[str, Any] | None,
) -> wds.FluidWrapper:
    """The pipeline of ``StoredTiles.webdataset``, checked arguments given."""
    tars = data.tars() if slides is None else data.tars_of(slides)
    stages = [
        wds.split_by_node,
        wds.split_by_worker,
        # the seed is the same in all: they have different tars
        wds.detshuffle(max(1, len(tars)), seed=seed) if shuffle else None,
        Opened(data),
        pipelinefilter(tar_file_expander)(),
        pipelinefilter(group_by_keys)(),
        Known(data, slides),
        wds.detshuffle(shuffle, seed=seed) if shuffle else None,
        wds.map(Ready(data, prepare, labels)),
    ]
    found = wds.FluidWrapper(wds.SimpleShardList([f"{data.root}/shards/{tar}.tar" for tar in tars]))
    return found.compose(*(stage for stage in stages if stage is not None))


@dataclass
class Opened:
    """Opens each tar in turn, and closes it."""

    data: "StoredTiles"

    def __call__(self, tars: Iterable[Sample]) -> Iterator[Sample]:
        """Add a ``stream`` to each ``url``."""
        storage = self.data.storage
        for tar in tars:
            name = f"shards/{PurePath(tar['url']).name}"
            try:
                file = storage.stream(name)
            except OSError as error:
                raise DatasetError(
                    f"{storage.root / name}: {error.strerror}; run {command('pathprep verify', storage)}"
                ) from None
            with file:
                yield {**tar, "stream": file}


@dataclass
class Known:
    """Compares each sample with the index, and takes from it what is known of the tile.

    ``slides``: others are dropped; None keeps all.
    """

    data: "StoredTiles"
    slides: frozenset[str] | None

    def __call__(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Samples as webdataset groups them, to ``jpg`` (bytes), ``row`` of the index and ``__url__``."""
        url, rows = "", dict[str, Sample]()
        try:
            for sample in samples:
                if sample["__url__"] != url:
                    self._check_end(url, rows)
                    url = sample["__url__"]
                    table = self.data.tar_rows(PurePath(url).stem)
                    rows = {row["key"]: row for row in table.to_pylist()}
                row = rows.pop(sample["__key__"], None)
                if row is None or "jpg" not in sample:
                    raise self._damaged(url, f"its index knows no sample {sample['__key__']}")
                jpeg = checked(sample["jpg"], row, PurePath(url).stem, self.data.root)
                if self.slides is None or row["slide"] in self.slides:
                    yield {"__key__": key_of(row), "__url__": url, "jpg": jpeg, "row": row}
        except tarfile.TarError as error:
            raise self._damaged(url, str(error.args[0])) from None
        self._check_end(url, rows)

    def _check_end(self, url: str, left: Mapping[str, Sample]) -> None:
        if left:
            raise self._damaged(url, f"it ends {counted(len(left), 'tile')} too early")

    def _damaged(self, url: str, reason: str) -> DatasetError:
        return DatasetError(f"{url}: {reason}; run {command('pathprep verify', self.data.root)}")


@dataclass
class Ready:
    """Decodes a tile, and gives it the form that a training loop sees."""

    data: "StoredTiles"
    prepare: Prepare
    labels: Mapping[str, Any] | None

    def __call__(self, sample: Sample) -> Sample:
        row = sample["row"]
        fit = fit_of(row, self.data.params["stain"]) if "max_c" in row else None
        pixels = self.prepare(decoded(sample["jpg"], row, sample["__url__"]), fit)
        found = {"__url__": sample["__url__"], **sample_of(row, pixels)}
        if self.labels is not None:
            found["label"] = self.labels[row["slide"]]
        elif "label" in row:
            found["label"] = row["label"]
        return found
