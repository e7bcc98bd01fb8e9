"""A dataset on S3 or any other filesystem that fsspec knows: made in a local folder, uploaded slide by slide.

A worker makes a slide in a folder of its own on the local disk, uploads its files, the marker last, and
removes them. What is done is decided by the markers and the listing of the remote folder alone, as in a
local dataset, and the bytes are the same. Object stores put a whole object or none; on other filesystems a
file is uploaded under a temporary name and moved. Several runs may work on one URL: the last put wins, with
equal bytes.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import Marker, displaced, sealed_in, vouches
from pathprep.dataset.schema import FOLDERS
from pathprep.errors import DatasetError, StoreError, UsageError
from pathprep.launchers.base import STAGES, Progress
from pathprep.pseudonyms.slides import key_of
from pathprep.sharding.pipeline import ShardTask, process
from pathprep.sharding.quarantine import Standing, standing
from pathprep.sharding.task import DatasetTask
from pathprep.slides.identity import is_there
from pathprep.storage import atomic
from pathprep.storage.seals import sealed
from pathprep.storage.url import UrlStorage
from pathprep.storage.workspace import scratch_folder, sweep, workspace

# Small requests wait on the network, not on a core
THREADS = 32


@dataclass
class Remote:
    """A remote dataset during a run.

    Attributes:
        store: where it is. scratch: folder on the local disk where slides are made.
        root: a local folder with dataset.json, markers and quarantine as they were when the run began.
        sizes: name -> bytes of every remote file at that time.
    """

    store: UrlStorage
    scratch: Path
    root: Path
    sizes: dict[str, int] = field(default_factory=dict)

    def size(self, name: str) -> int:
        """Bytes of a file when the run began; -1 if it was absent."""
        return self.sizes.get(name, -1)

    def publish(self, name: str) -> None:
        """Upload a file of ``root``, unless it is as it was when the run began."""
        path = self.root / name
        if self.store.read(name) != path.read_bytes():
            self.store.put(path, name)

    def task(self, task: ShardTask) -> "RemoteTask":
        """The same slide, made here or on another machine, for the store."""
        return RemoteTask(**_values(task), store=self.store, scratch=self.scratch)

    def record(self, name: str, marker: Marker) -> None:
        """Take note of a slide that is done."""
        (self.root / "slides" / f"{name}.json").write_bytes(_json(marker))

    def fail(self, task: DatasetTask[Any, Any], failure: FailedShard) -> tuple[Standing, Marker | None]:
        """Publish the quarantine file that ``root`` holds of a task; see ``run`` for the order of things.

        Returns:
            What stands under the slide's name, and its marker.
        """
        name, own = task.source.name, f"slides/{task.source.name}.json"
        found, marker = Standing.NOTHING, None
        # the summary has it too: a network that fails now fails the slide, not the run
        with suppress(StoreError):
            self.publish(f"failed/{name}.json")
            marker = sealed_in(self.store, own)
            found = standing(marker, task, failure, self.store.size)
            if found.stays:
                self.store.remove(f"failed/{name}.json")
            elif found is Standing.OUTDATED and is_there(task.source.path):
                self.store.remove(own)
        if found is Standing.DONE and marker is not None:
            self.record(name, marker)
        return found, marker


def writable(url: str) -> UrlStorage:
    """The storage of a URL that workers can write to.

    Raises:
        UsageError: they cannot, or fsspec does not know it, or the library for it is not installed.
    """
    if url.startswith("memory:") or "::" in url:
        raise UsageError(f"{url}: worker processes on this and other machines cannot write there")
    return UrlStorage.of(url)


@contextmanager
def opened(store: UrlStorage, scratch: Path | None = None, *, dry: bool = False) -> Iterator[Remote]:
    """See what a remote dataset holds: one listing a folder, and the markers, read side by side.

    Args:
        store: where. scratch: for slides in work; default: under the system's temporary folder.
        dry: write nothing to the store.

    Raises:
        UsageError: another user has a folder of this name there, or could write to it.
    """
    place = scratch_folder(store, scratch)
    try:
        with workspace(place, "run", FOLDERS) as root, ThreadPoolExecutor(THREADS) as pool:
            remote = Remote(store, place, root)
            for listing in pool.map(store.listing, FOLDERS):
                remote.sizes |= {info.name: info.size for info in listing}
            if not dry:
                store.sweep([*remote.sizes])
            small = [name for name in remote.sizes if name.startswith(("slides/", "failed/"))]
            names = ["dataset.json", *(n for n in small if n.endswith(".json") and atomic.PREFIX not in n)]
            for name, data in zip(names, pool.map(store.read, names), strict=True):
                if data is not None:
                    (root / name).write_bytes(data)
            yield remote
    finally:
        sweep(place)  # what stopped workers have left


@dataclass(frozen=True)
class RemoteTask(ShardTask):
    """A slide to shard into a store. ``root`` is the launching machine's and not used."""

    store: UrlStorage = field(kw_only=True)
    scratch: Path = field(kw_only=True)

    def work(self, progress: Progress) -> tuple[Marker, bool]:
        """Make and upload the slide; see launchers.base.Task."""
        store, name = self.store, self.source.name
        self._check_build()
        inputs = self.source.inputs()
        if not self.rebuild:
            standing = _standing(store, name, self.build_id, inputs)
            if standing is not None:
                return standing, False
        with workspace(self.scratch, name, FOLDERS) as folder:
            marker = process(ShardTask(**(_values(self) | {"root": folder})), progress)
            progress.stage(STAGES.index("upload"))
            return self._upload(folder, marker)

    def _check_build(self) -> None:
        info = self.store.read_json("dataset.json")
        if info is None:
            raise DatasetError(f"{self.store}/dataset.json: not there any more")
        if key_of(info) != self.source.key_id:
            other = "another run has begun to write there with other pseudonyms, or none"
            raise DatasetError(f"{self.store}/dataset.json: {other}")
        if info.get("build_id") != self.build_id:
            raise DatasetError(
                f"{self.store}/dataset.json: has build id {info.get('build_id')}, but this run's is "
                f"{self.build_id}: another run has begun to rebuild the dataset with other parameters"
            )

    def _upload(self, folder: Path, marker: Marker) -> tuple[Marker, bool]:
        store, name = self.store, self.source.name
        own = f"slides/{name}.json"
        old = sealed_in(store, own)
        if (
            not self.rebuild
            and old is not None
            and vouches(old, self.build_id, marker.inputs, store.size)
            and old.files == marker.files
        ):
            store.remove(f"failed/{name}.json")
            return old, False
        if old is not None:  # it must not vouch for the files that now take its files' place
            store.write(own, _json(displaced(old)))
        for file in (f"shards/{name}.tar", f"shards/{name}.idx", f"dropped/{name}.parquet"):
            if file not in marker.files:  # an earlier build may have made it
                store.remove(file)
        for file in sorted(marker.files):
            store.put(folder / file, file)
        store.put(folder / own, own)
        store.remove(f"failed/{name}.json")
        return marker, True


def _standing(store: UrlStorage, slide: str, build: str, inputs: dict[str, Any]) -> Marker | None:
    """The marker of a slide that is done at this moment, as marker.committed."""
    marker = sealed_in(store, f"slides/{slide}.json")
    return marker if vouches(marker, build, inputs, store.size) else None


def _json(marker: Marker) -> bytes:
    return json.dumps(sealed(marker.as_dict())).encode()


def _values(task: ShardTask) -> dict[str, Any]:
    return {item.name: getattr(task, item.name) for item in fields(ShardTask)}
