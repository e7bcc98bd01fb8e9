"""Writing a slide's shard: tar, index and previews under temporary names, then all of them at once."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset.marker import committed, read_sealed, same_inputs, sealed
from pathprep.dataset.schema import DROPPED, SCHEMA
from pathprep.dataset.tar import dali_index, tar_header
from pathprep.errors import DatasetError, NameTaken
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json


class ShardWriter:
    """Writes one slide: tar, index and previews under temporary names, then all of them at once.

    Use as a context manager; leaving it without ``commit`` removes what was written. Memory holds
    the index rows only. ``replace``: even a shard that is committed and the same.
    """

    def __init__(self, root: Path, slide: str, replace: bool = False) -> None:
        self.root, self.slide, self.replace = root, slide, replace
        self._rows: list[dict[str, Any]] = []
        self._dropped: list[Mapping[str, Any]] = []
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
        header = tar_header(f"{row['x']}_{row['y']}.jpg", len(jpeg))
        padding = -len(jpeg) % tarfile.BLOCKSIZE
        offset = self._position + len(header)
        self._write(header + jpeg + b"\0" * padding)
        self._rows.append({**row, "offset": offset, "length": len(jpeg), "crc32": zlib.crc32(jpeg)})

    def drop(self, row: Mapping[str, Any]) -> None:
        """Put a tile on record that is not stored; ``row`` has DROPPED's columns, others are left out."""
        self._dropped.append(row)

    def _write(self, data: bytes) -> None:
        self._tar.write(data)
        self._hash.update(data)
        self._position += len(data)

    def commit(self, marker: Mapping[str, Any], previews: Mapping[str, bytes]) -> dict[str, Any]:
        """Publish every file, the marker last.

        Args:
            marker: what is known of the slide; ``files`` (sizes and SHA-256) and ``tiles`` are added.
            previews: file suffix -> bytes, written to ``previews/<slide>.<suffix>``.

        Returns:
            The marker as written; that of another run which has committed the same shard meanwhile stays.
        """
        files: dict[str, bytes] = {
            f"previews/{self.slide}.{suffix}": data for suffix, data in previews.items()
        }
        files[f"index/{self.slide}.parquet"] = _parquet(self._rows, SCHEMA)
        if self._dropped:
            files[f"dropped/{self.slide}.parquet"] = _parquet(self._dropped, DROPPED)
        tar = self._path("shards", "tar")
        recorded: dict[str, dict[str, Any]] = {}
        if self._rows:
            files[f"shards/{self.slide}.idx"] = dali_index(self._rows)
            self._write(b"\0" * (2 * tarfile.BLOCKSIZE))
            recorded[f"shards/{tar.name}"] = {"size": self._position, "sha256": self._hash.hexdigest()}
        for name, data in sorted(files.items()):
            recorded[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        self._stack.close()  # flushes the tar to disk
        standing = committed(self.root, self.slide, marker.get("build_id"), marker.get("inputs"))
        if standing is not None and standing["files"] == recorded and not self.replace:
            # the other run may have ended and count on it: there must be no moment without it
            self._path("failed", "json").unlink(missing_ok=True)
            return standing
        self._refuse_to_replace(marker)
        # an earlier build's marker must not vouch for the files that now take its files' place
        self._path("slides", "json").unlink(missing_ok=True)
        if self._rows:
            atomic.publish(self._tar_temporary, tar)
        else:  # an earlier build may have kept tiles
            tar.unlink(missing_ok=True)
            tar.with_suffix(".idx").unlink(missing_ok=True)
        if not self._dropped:
            self._path("dropped", "parquet").unlink(missing_ok=True)
        for name, data in sorted(files.items()):
            atomic.write_bytes(self.root / name, data)
        done = sealed({**marker, "slide": self.slide, "tiles": len(self._rows), "files": recorded})
        atomic.write_json(self._path("slides", "json"), done)
        self._path("failed", "json").unlink(missing_ok=True)
        return done

    def _refuse_to_replace(self, marker: Mapping[str, Any]) -> None:
        """Raises where the dataset, or the slide's name in it, was taken over while the slide was made."""
        info = read_json(self.root / "dataset.json")
        if info is not None and info.get("build_id") != marker.get("build_id"):
            raise DatasetError(
                f"{self.root}: another run has begun to rebuild the dataset with other parameters"
            )
        standing = read_sealed(self._path("slides", "json"))
        if self.replace or standing is None or standing.get("build_id") != marker.get("build_id"):
            return
        made, now = standing["source"], marker["source"]
        if made["path"] != now["path"] and not same_inputs(standing, marker["inputs"]):
            raise NameTaken(
                f"{now['path']}: another run has sharded {made['path']} under the name {self.slide} "
                "meanwhile; run the command again, which finds another name"
            )


def _parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file, compression="zstd")
    return file.getvalue()
