"""Rows of a slide's features while they come: on the disk, so that memory does not grow with the slide."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.storage import atomic

Features = npt.NDArray[np.float32]


class Spool:
    """A file without a name, which is gone with the process.

    Args:
        folder: that it lies in: where the features are written to, and have to fit anyway.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".tmp-")  # noqa: SIM115, it outlives this
        self._row: tuple[int, ...] = ()
        self.rows = 0

    def append(self, features: Features) -> None:
        """Add rows (T, D), or (T, P, D).

        Raises:
            OSError: the disk is full.
        """
        self._row = features.shape[1:]
        with atomic.named(self._folder):
            self._file.write(np.ascontiguousarray(features).data)
        self.rows += len(features)

    def all(self) -> Features:
        """All rows, as they are on the disk."""
        with atomic.named(self._folder):
            self._file.flush()
        shape = (self.rows, *self._row)
        if not self.rows:
            return np.zeros((0, 0), np.float32)
        if os.fstat(self._file.fileno()).st_size != 4 * int(np.prod(shape)):
            raise OSError(f"{self._folder}: a temporary file is not as long as what was written to it")
        return np.memmap(self._file, np.float32, "r", shape=shape)

    def close(self) -> None:
        """Give the disk back; ``all`` may still be in use."""
        with suppress(OSError):  # of rows that nobody wants any more, on a full disk
            self._file.close()
