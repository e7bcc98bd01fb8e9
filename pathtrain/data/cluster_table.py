"""Tables of tiles' clusters, which `pathtrain curate` writes and ``sampling.table`` takes.

weights.parquet    a row per tile, shard after shard of a dataset, in the order of its index
  slide_id         name of the slide (or an imported set's shard) in the dataset
  x, y             the tile's corner in level-0 pixels; null for imported tiles
  cluster_1 ...    its cluster in each level, the finest first
  weight           how often it comes, drawn by cluster, against every tile alike
metadata           under ``pathtrain_clusters``, JSON: version, made (of which model and how), and shards,
                   a list of slide, sha256 of its tar, build_id and rows; ``pathtrain_seal``, a seal
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.storage import atomic, regular
from pathprep.storage.embedded_seal import EMPTY, put, seal_in
from pathprep.storage.seals import Seal
from pathprep.words import counted
from pathtrain.data.order import Ints

METADATA, SEAL_METADATA = b"pathtrain_clusters", b"pathtrain_seal"
VERSION = 1
NAMED = 3  # slides in a message
AGAIN = "run `pathtrain embed` and `pathtrain curate` again"


@dataclass(frozen=True)
class Shard:
    """Tiles that lie in one tar of a dataset: its name, hash and rows."""

    slide: str
    sha256: str
    build_id: str
    rows: int


@dataclass(frozen=True)
class ClusterTable:
    """N tiles.

    Attributes:
        clusters: (N, L) int64, the finest level first.
        coords: (N, 2) int64; -1 where they are not known.
        weights: (N,) float64.
        shards: whose tiles they are, in their order.
        made: what the table was made of.
    """

    clusters: Ints
    coords: Ints
    weights: npt.NDArray[np.float64]
    shards: list[Shard]
    made: dict[str, Any]

    def of(self, data: Dataset, place: Path) -> Ints:
        """(N, L) clusters of a dataset's tiles, in the order of its index.

        Args:
            place: of the table, for messages.

        Raises:
            UsageError: tiles of the dataset are not in the table, or are others than these.
        """
        starts = np.cumsum([0, *(shard.rows for shard in self.shards)])
        known = {(shard.slide, shard.sha256): number for number, shard in enumerate(self.shards)}
        names = {shard.slide for shard in self.shards}
        index, markers = data.tiles(("x", "y")), data.markers
        rows, missing, others = list[Ints](), list[str](), list[str]()
        for slide in index.slides:
            number = known.get((slide, markers[slide].files[f"shards/{slide}.tar"].sha256))
            if number is None:
                (others if slide in names else missing).append(slide)
                continue
            rows.append(np.arange(starts[number], starts[number + 1]))
        if missing or others:
            named = ", ".join([*others, *missing][:NAMED]) + (
                ", ..." if len(others + missing) > NAMED else ""
            )
            why = "it holds other tiles of" if others else "it lacks"
            raise UsageError(
                f"sampling.table {place}: {why} {counted(len(others or missing), 'slide')} of {data.root} "
                f"({named}); run `pathtrain embed` on all that is trained on, and `pathtrain curate` on the "
                "features"
            )
        found = np.concatenate(rows) if rows else np.empty(0, np.int64)
        coords = self.coords[found]
        own = np.stack([index.columns["x"], index.columns["y"]], axis=1)
        if len(found) != len(index) or ((coords != own) & (coords >= 0)).any():
            raise UsageError(f"sampling.table {place}: its tiles are not those of {data.root}; {AGAIN}")
        return self.clusters[found]


def write(path: Path, table: ClusterTable) -> None:
    """Write it whole or not at all."""
    slides = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(table.shards), dtype=np.int32), [s.rows for s in table.shards])),
        pa.array([shard.slide for shard in table.shards], pa.string()),
    )
    columns: dict[str, Any] = {"slide_id": slides}
    for number, axis in enumerate("xy"):
        values = table.coords[:, number]
        columns[axis] = pa.array(values, mask=values < 0)
    for level in range(table.clusters.shape[1]):
        columns[f"cluster_{level + 1}"] = pa.array(table.clusters[:, level].astype(np.int32))
    columns["weight"] = pa.array(table.weights)
    shards = [[shard.slide, shard.sha256, shard.build_id, shard.rows] for shard in table.shards]
    about = json.dumps({"version": VERSION, "made": table.made, "shards": shards}, sort_keys=True)
    made = pa.table(columns).replace_schema_metadata({METADATA: about.encode()})
    with atomic.pending(path) as (stream, temporary):
        with pq.ParquetWriter(stream, made.schema, write_page_checksum=True) as writer:
            writer.write_table(made)
            writer.add_key_value_metadata({SEAL_METADATA: EMPTY.encode()})
        put(stream)
    atomic.publish(temporary, path)


def is_one(path: Path) -> bool:
    """Whether a file is such a table, whole or not; not a table of slides."""
    try:
        with regular.open_regular(path) as stream:
            return stream.read(4) == b"PAR1" and METADATA in (pq.read_metadata(stream).metadata or {})
    except (OSError, ValueError, pa.ArrowException):
        return False


def read(path: Path) -> ClusterTable:
    """Read it.

    Raises:
        UsageError: it cannot be read, is no such table or of a newer version, or is damaged.
    """
    try:
        data = regular.read(path)
        if seal_in(data) is not Seal.WHOLE:
            raise ValueError("it has no seal that fits: it is damaged, or no table of `pathtrain curate`")
        made = pq.read_table(pa.BufferReader(data))
        about = json.loads(made.schema.metadata[METADATA])
        if about["version"] > VERSION:
            raise ValueError("it was written by a newer version")
        levels = [name for name in made.column_names if name.startswith("cluster_")]
        clusters = [made[name].to_numpy() for name in levels]
        coords = [made[axis].fill_null(-1).to_numpy() for axis in "xy"]
        shards = [Shard(*shard) for shard in about["shards"]]
        if sum(shard.rows for shard in shards) != len(made):
            raise ValueError("its rows are not those that it says")
        return ClusterTable(
            np.stack(clusters, axis=1).astype(np.int64),
            np.stack(coords, axis=1).astype(np.int64),
            made["weight"].to_numpy(),
            shards,
            about["made"],
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(
            f"sampling.table {path}: cannot be read ({why}); `pathtrain curate` writes such tables"
        ) from None
