"""Files from a URL, fetched ahead of the work on them into a local folder of limited size."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol, Self

from pathprep.errors import FULL_DISK, DatasetError, StoreError, why
from pathprep.storage.base import FileInfo
from pathprep.storage.url import UrlStorage
from pathprep.storage.workspace import scratch_folder, workspace
from pathprep.words import size_in_words

THREADS = 2  # that fetch; a store gives one of them less than the network can carry


class Parcel(Protocol):
    """Files that are wanted together.

    Attributes:
        store: where they are. files: names in it, sizes.
    """

    @property
    def store(self) -> UrlStorage:
        """Where they are."""

    @property
    def files(self) -> tuple[FileInfo, ...]:
        """Their names there, with sizes."""


Fetched = Path | StoreError | DatasetError


class Staging:
    """Parcels one after the other, as local folders; use as a context manager.

    Iterate in a thread of its own, where several are held at a time: the next one is waited for until those
    that are held leave room for it.

    Args:
        parcels: in the order in which they are wanted.
        scratch: where; None: the system's temporary folder. What killed runs left there is removed.
        limit: bytes that may lie there.
    """

    def __init__(self, parcels: Sequence[Parcel], scratch: Path | None, limit: int) -> None:
        self._parcels, self._limit, self._used = list(parcels), limit, 0
        self._place = scratch_folder(sorted({str(each.store) for each in parcels}), scratch)
        self._room, self._ended = threading.Condition(), False
        self._stack = ExitStack()
        self._waiting: SimpleQueue[Future[Fetched] | None] = SimpleQueue()

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(workspace(self._place, "slides"))
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")
        self._feeder = threading.Thread(target=self._feed, name="staging", daemon=True)
        self._feeder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._room:
            self._ended = True
            self._room.notify_all()
        self._feeder.join()
        self._pool.shutdown(cancel_futures=True)  # what is being fetched is finished
        self._waiting.put(None)
        self._stack.close()

    def __iter__(self) -> Iterator[tuple[int, Fetched]]:
        """Number of a parcel and the folder with its files, or why it could not be fetched.

        Raises:
            OSError: the disk of ``scratch`` is full, or read only.
        """
        for number in range(len(self._parcels)):
            future = self._waiting.get()
            if future is None:
                return
            yield number, future.result()

    def release(self, number: int) -> None:
        """Remove a parcel's files, which are not needed any more."""
        shutil.rmtree(self._folder / str(number), ignore_errors=True)
        self._free(self._bytes(number))

    def _bytes(self, number: int) -> int:
        return sum(file.size for file in self._parcels[number].files)

    def _free(self, size: int) -> None:
        with self._room:
            self._used -= size
            self._room.notify_all()

    def _feed(self) -> None:
        for number, parcel in enumerate(self._parcels):
            size = self._bytes(number)
            if size > self._limit:
                future: Future[Fetched] = Future()
                future.set_result(
                    StoreError(
                        f"{parcel.store}/{parcel.files[0].name}: {size_in_words(size)}, more than the "
                        f"{size_in_words(self._limit)} that may lie in `scratch`; raise `scratch_limit`"
                    )
                )
                self._waiting.put(future)
                continue
            with self._room:
                while not self._ended and self._used + size > self._limit:
                    self._room.wait()
                if self._ended:
                    return
                self._used += size
            self._waiting.put(self._pool.submit(self._fetch, number))

    def _fetch(self, number: int) -> Fetched:
        parcel, folder = self._parcels[number], self._folder / str(number)
        try:
            for file in parcel.files:
                local = folder / file.name
                local.parent.mkdir(parents=True, exist_ok=True)
                parcel.store.get(file.name, local)
                if (found := local.stat().st_size) != file.size:
                    raise StoreError(
                        f"{parcel.store}/{file.name}: has {found:,} bytes, was listed with {file.size:,}: it "
                        "is being written; try again"
                    )
        except FileNotFoundError as error:
            self.release(number)
            return StoreError(f"{error.filename}: not there any more")
        except (StoreError, DatasetError) as error:
            self.release(number)
            return error
        except OSError as error:
            if error.errno in FULL_DISK:  # so it is for all that are left
                raise
            self.release(number)  # such as a name that is too long for a disk
            return StoreError(f"{parcel.store}/{file.name}: cannot be written to `scratch` ({why(error)})")
        return folder
