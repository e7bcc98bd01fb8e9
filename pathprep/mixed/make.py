"""Mixes datasets: all their tiles in one random order, in shards of equal size, to stream from object stores.

The order is a keyed permutation (pathprep.permutation), so which tiles a shard holds is known without the
others. As many shards as ``memory`` holds are made in a pass: their tiles are read in the order in which
they lie in the datasets, each straight to its place in its new tar, and the tars are written one by one.
Reading is nearly sequential as long as a pass takes a fair share of all tiles.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathprep import permutation
from pathprep.dataset.schema import build_id
from pathprep.errors import UsageError
from pathprep.launchers.local import cores
from pathprep.mixed import format as mixed
from pathprep.mixed.found import alone, finished, prepare
from pathprep.mixed.inputs import Corpus
from pathprep.mixed.make_pass import Job, Maker
from pathprep.params.running import MIX_MEMORY_GB, TILES_PER_SHARD, AnyPath, check_run, listed
from pathprep.storage.place import local_folder
from pathprep.storage.seals import write_sealed

GB = 10**9


@dataclass
class MixSummary:
    """The account of a mix.

    Attributes:
        tiles, shards: of the whole mix. reused: shards that an earlier run had finished.
        passes: how often the datasets were gone through. read, written: tiles so far, by this run.
        renamed: slides with another name in keys than in their dataset.
        bytes: of the tars that this run wrote. interrupted: stopped by Ctrl-C.
    """

    root: Path
    mix_id: str
    tiles: int
    shards: int
    components: tuple[str, ...]
    renamed: int
    reused: int = 0
    todo: int = 0
    passes: int = 0
    read: int = 0
    written: int = 0
    bytes: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The summary as `--json` prints it."""
        return {
            "mixed": str(self.root),
            "mix_id": self.mix_id,
            "tiles": self.tiles,
            "shards": self.shards,
            "components": list(self.components),
            "renamed_slides": self.renamed,
            "shards_reused": self.reused,
            "tiles_written": self.written,
            "bytes_written": self.bytes,
            "passes": self.passes,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
            "tiles_per_second": round(self.written / self.seconds, 1) if self.seconds else 0.0,
        }


Watcher = Callable[[MixSummary], None]


def mix(
    datasets: AnyPath | Iterable[AnyPath],
    out: AnyPath = "mixed",
    *,
    tiles_per_shard: int = TILES_PER_SHARD,
    seed: int = 0,
    memory: float = MIX_MEMORY_GB,
    workers: int | None = None,
    watch: Watcher | None = None,
) -> MixSummary:
    """Write mixed shards; finished shards of an earlier run of the same mix are checked and kept.

    Args:
        datasets: their folders or URLs, one or several. Their order matters only where slides share a name.
        out: the folder for the mix, made if absent.
        tiles_per_shard: at most so many; shards differ by at most one tile.
        seed: of the order.
        memory: GB (10^9 bytes) of tars that are held at a time. Never changes a byte of the output.
        workers: threads; default one per core. Never changes a byte of the output.
        watch: called often with the summary so far.

    Raises:
        UsageError: datasets that do not go together, a folder with something else, too little memory.
        DatasetError: a tile is damaged; it names the slide.
        BusyError: another process makes a mix there.
        OSError: the folder cannot be written.
    """
    if tiles_per_shard < 1 or seed < 0 or not memory > 0:
        raise UsageError("`tiles_per_shard` must be above 0, `seed` 0 or more, `memory` above 0")
    check_run(workers=workers)
    root = local_folder(out)
    start = time.perf_counter()
    with ExitStack() as held:
        pool = held.enter_context(_threads(workers or cores()))
        corpus = Corpus(listed(datasets))
        plan = {
            "version": mixed.PLAN_VERSION,
            "seed": seed,
            "tiles_per_shard": tiles_per_shard,
            "sources": corpus.describe(),
        }
        count = -(-len(corpus) // tiles_per_shard)
        summary = MixSummary(root, build_id(plan), len(corpus), count, corpus.components, corpus.renamed)
        held.enter_context(alone(root))
        prepare(root, plan, count)
        done = dict(finished(root, plan, count, len(corpus), pool))
        summary.reused = len(done)
        summary.todo = len(corpus) - sum(marker["tiles"] for marker in done.values())
        maker = Maker(corpus, root, summary.mix_id, pool)
        jobs = (_job(corpus, number, count, seed) for number in range(count) if number not in done)
        try:
            for batch in passes(jobs, int(memory * GB)):
                summary.passes += 1
                for event in maker.make(batch):
                    if isinstance(event, int):
                        summary.read += event
                    else:
                        done[event["number"]] = event
                        summary.written += event["tiles"]
                        summary.bytes += event["files"][mixed.files(event["shard"])[0]]["size"]
                    summary.seconds = time.perf_counter() - start
                    if watch:
                        watch(summary)
            _commit(root, corpus, plan, [done[number] for number in range(count)])
        except KeyboardInterrupt:
            summary.interrupted = True
        summary.seconds = time.perf_counter() - start
    return summary


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what it has not begun when it is left by an error."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="mix")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _job(corpus: Corpus, number: int, count: int, seed: int) -> Job:
    total = len(corpus)
    places = np.arange(number * total // count, (number + 1) * total // count)
    tiles = permutation.permuted(places, total, seed)
    columns = [corpus.column("length", np.sort(tiles)).astype(np.int64)]
    if "fit" in corpus.components:
        columns.append(np.full(len(tiles), 4 * mixed.FIT_VALUES))
    if "txt" in corpus.components:
        bytes_of = np.array([*(len(label.encode()) for label in corpus.labels), -1])
        columns.append(bytes_of[corpus.column("label", np.sort(tiles))])
    return Job(number, tiles, mixed.layout(np.stack(columns, 1))[1])


def passes(jobs: Iterable[Job], memory: int) -> Iterator[list[Job]]:
    """As many shards at a time as ``memory`` bytes hold.

    Raises:
        UsageError: one shard alone is larger.
    """
    batch: list[Job] = []
    for job in jobs:
        if job.size > memory:
            raise UsageError(
                f"`memory` {memory / GB:g} GB holds no shard: {mixed.name(job.number)} has "
                f"{job.size / GB:.3g} GB; give more, or fewer `tiles_per_shard`"
            )
        if sum(other.size for other in batch) + job.size > memory:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _commit(root: Path, corpus: Corpus, plan: dict[str, Any], markers: list[dict[str, Any]]) -> None:
    """Write mixed.json, and remove what only an unfinished folder needs."""
    info = {
        "format": mixed.FORMAT,
        "version": mixed.VERSION,
        "mix_id": build_id(plan),
        "plan": plan,
        "tiles": len(corpus),
        "components": list(corpus.components),
        "labels": corpus.labels,
        "sources": [
            {**source.place(), "params": source.dataset.params, **about}
            for source, about in zip(corpus.sources, plan["sources"], strict=True)
        ],
        "shards": markers,
    }
    write_sealed(root / mixed.INFO, info)
    (root / mixed.PLAN).unlink(missing_ok=True)
    for path in (root / "unfinished").glob("mixed-*.json"):
        if mixed.NAME.fullmatch(path.stem):
            path.unlink(missing_ok=True)
    owned = {name for marker in markers for name in marker["files"]}
    for folder in ("shards", "index"):  # of a mix into more shards that was killed before its first marker
        for path in (root / folder).glob("mixed-*"):
            name = f"{folder}/{path.name}"
            if name not in owned and mixed.NAME.fullmatch(path.stem) and name in mixed.files(path.stem):
                path.unlink()
    with suppress(OSError):  # somebody else's file is in it: verify names that
        (root / "unfinished").rmdir()
