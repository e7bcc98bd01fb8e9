"""HDF5 that is written to a stream: what the disk refuses is an error, and not the end of the process."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py


@contextmanager
def writing(stream: BinaryIO) -> Iterator[h5py.File]:
    """A new HDF5 file in a stream, closed at the end.

    Raises:
        OSError: the first error of the stream.
    """
    bearing = _Bearing(stream)
    try:
        with h5py.File(bearing, "w") as file:
            yield file
    finally:
        if bearing.error is not None:
            raise bearing.error


class _Bearing(io.RawIOBase):
    """A stream that keeps its first error and takes everything after it, to no effect.

    libhdf5 flushes a file once more when the last reference to it goes, and crashes if that fails: a full
    disk would end the process with a traceback of h5py's and a segmentation fault.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._stream = stream
        self._place = self._end = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + (self._end if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self.error is None:
            try:
                self._stream.seek(self._place)
                self._stream.write(data)
            except OSError as error:
                self.error = error
        self._place += size
        self._end = max(self._end, self._place)
        return size

    def readinto(self, into: Any) -> int:
        read = 0
        if self.error is None:
            try:
                self._stream.seek(self._place)
                read = self._stream.readinto(into)  # type: ignore[attr-defined]  # of a buffered file
            except OSError as error:
                self.error = error
        self._place += read
        return read

    def truncate(self, size: int | None = None) -> int:
        size = self._place if size is None else size
        if self.error is None:
            try:
                self._stream.truncate(size)
            except OSError as error:
                self.error = error
        self._end = size
        return size

    def flush(self) -> None:
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self.error = error
