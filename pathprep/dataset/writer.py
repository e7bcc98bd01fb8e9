"""Writing a slide's shard: tar, index and previews under temporary names, then all of them at once."""

import hashlib
import io
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset.marker import (
    FileRecord,
    Marker,
    SlideMarker,
    committed,
    displaced,
    read_sealed,
    same_inputs,
)
from pathprep.dataset.schema import DROPPED, SCHEMA, STATUSES, tile_key, with_shares
from pathprep.dataset.tar import dali_index, tar_header
from pathprep.errors import DatasetError, NameTaken
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import write_sealed


class ShardWriter:
    """Writes one slide: tar, index and previews under temporary names, then all of them at once.

    Use as a context manager; leaving it without ``commit`` removes what was written. Memory holds
    the index rows only.

    Args:
        root: the dataset folder. slide: name of the shard.
        replace: even a shard that is committed and the same.
        shares: classes of the tissue model, each a column.

    Attributes:
        statuses: tiles so far, by stain status. dropped: tiles that are not stored so far, by reason.
    """

    def __init__(self, root: Path, slide: str, replace: bool = False, shares: Sequence[str] = ()) -> None:
        self._shares = shares
        self.root, self.slide, self.replace = root, slide, replace
        self._rows: list[dict[str, Any]] = []
        self._dropped: list[Mapping[str, Any]] = []
        self.statuses: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._position = 0
        self._hash = hashlib.sha256()
        self._stack = ExitStack()
        self._tar, self._tar_temporary = self._stack.enter_context(
            atomic.pending(self._path("shards", "tar"))
        )

    def _path(self, folder: str, suffix: str) -> Path:
        return self.root / folder / f"{self.slide}.{suffix}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        atomic.discard(self._tar_temporary)

    def add(self, jpeg: bytes, row: Mapping[str, Any]) -> None:
        """Append one tile; ``row`` has SCHEMA's columns but offset, length, crc32; null if left out."""
        header = tar_header(f"{tile_key(self.slide, row['x'], row['y'])}.jpg", len(jpeg))
        padding = -len(jpeg) % tarfile.BLOCKSIZE
        offset = self._position + len(header)
        self._write(header + jpeg + b"\0" * padding)
        self._rows.append({**row, "offset": offset, "length": len(jpeg), "crc32": zlib.crc32(jpeg)})
        self.statuses[row["stain_status"]] += 1

    def drop(self, row: Mapping[str, Any]) -> None:
        """Put a tile on record that is not stored; ``row`` has DROPPED's columns, others are left out."""
        self._dropped.append(row)
        self.dropped[row["reason"]] += 1

    def stain(self) -> dict[str, int]:
        """Tiles by stain status, as the marker records them."""
        return {status: self.statuses[status] for status in STATUSES if self.statuses[status]}

    def _write(self, data: bytes) -> None:
        self._tar.write(data)
        self._hash.update(data)
        self._position += len(data)

    def commit(self, marker: Marker, previews: Mapping[str, bytes]) -> Marker:
        """Publish every file, the marker last.

        Args:
            marker: what is known of the slide; ``slide``, ``tiles`` and ``files`` are added.
            previews: file suffix -> bytes, written to ``previews/<slide>.<suffix>``.

        Returns:
            The marker as written; that of another run which has committed the same shard meanwhile stays.
        """
        files: dict[str, bytes] = {
            f"previews/{self.slide}.{suffix}": data for suffix, data in previews.items()
        }
        own_name = marker.own_name if isinstance(marker, SlideMarker) else None
        known = {"own_name": own_name} if own_name else None
        files[f"index/{self.slide}.parquet"] = _parquet(
            self._rows, with_shares(SCHEMA, self._shares).with_metadata(known)
        )
        if self._dropped:
            files[f"dropped/{self.slide}.parquet"] = _parquet(
                self._dropped, with_shares(DROPPED, self._shares)
            )
        tar = self._path("shards", "tar")
        recorded: dict[str, FileRecord] = {}
        if self._rows:
            files[f"shards/{self.slide}.idx"] = dali_index(
                self._rows, (tile_key(self.slide, row["x"], row["y"]) for row in self._rows)
            )
            self._write(b"\0" * (2 * tarfile.BLOCKSIZE))
            recorded[f"shards/{tar.name}"] = FileRecord(self._position, self._hash.hexdigest())
        for name, data in sorted(files.items()):
            recorded[name] = FileRecord(len(data), hashlib.sha256(data).hexdigest())
        self._stack.close()  # flushes the tar to disk
        standing = committed(self.root, self.slide, marker.build_id, marker.inputs)
        if standing is not None and standing.files == recorded and not self.replace:
            # the other run may have ended and count on it: there must be no moment without it
            self._path("failed", "json").unlink(missing_ok=True)
            return standing
        self._displace(self._replaceable(marker))
        if self._rows:
            atomic.publish(self._tar_temporary, tar)
        else:  # an earlier build may have kept tiles
            tar.unlink(missing_ok=True)
            tar.with_suffix(".idx").unlink(missing_ok=True)
        if not self._dropped:
            self._path("dropped", "parquet").unlink(missing_ok=True)
        for name, data in sorted(files.items()):
            atomic.write_bytes(self.root / name, data)
        done = replace(marker, slide=self.slide, tiles=len(self._rows), files=recorded)
        write_sealed(self._path("slides", "json"), done.as_dict())
        self._path("failed", "json").unlink(missing_ok=True)
        return done

    def _displace(self, old: Marker | None) -> None:
        """See that the marker does not vouch for the files that now take its files' place.

        It is replaced, not removed: were this process killed before its end, nobody would know any more what
        the slide was made from, and with which MPP and mask.
        """
        path = self._path("slides", "json")
        if old is not None:
            write_sealed(path, displaced(old).as_dict())
        else:
            path.unlink(missing_ok=True)

    def _replaceable(self, marker: Marker) -> Marker | None:
        """The marker that stands, if one does; raises where it, or the dataset, was taken over meanwhile."""
        info = read_json(self.root / "dataset.json")
        if info is not None and info.get("build_id") != marker.build_id:
            raise DatasetError(
                f"{self.root}: another run has begun to rebuild the dataset with other parameters"
            )
        standing = read_sealed(self._path("slides", "json"))
        if self.replace or standing is None or standing.build_id != marker.build_id:
            return standing
        made, now = standing.source.path, marker.source.path
        if made != now and not same_inputs(standing, marker.inputs) and not _one_slide(standing, marker):
            raise NameTaken(
                f"{now}: another run has sharded {made} under the name {self.slide} "
                "meanwhile; run the command again, which finds another name"
            )
        return standing


def _one_slide(one: Marker, other: Marker) -> bool:
    """Whether markers are of one slide: the same content, or the same DICOM series."""
    if isinstance(one, SlideMarker) and isinstance(other, SlideMarker) and one.vendor == "dicom":
        return other.vendor == "dicom" and one.own_name == other.own_name
    return all(one.inputs.get(key) == other.inputs.get(key) is not None for key in ("size", "ends_sha256"))


def _parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file, compression="zstd")
    return file.getvalue()
