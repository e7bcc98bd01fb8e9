"""Rows that wait on the disk: as they came, gone with the process, and a full disk is named."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pathtrain.features.spool import Spool


def test_rows_are_as_they_came_and_leave_nothing(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3, 5)).astype(np.float32)
    spool = Spool(tmp_path)
    for start in range(0, 7, 2):
        spool.append(rows[start : start + 2])
    found = spool.all()
    spool.close()
    assert np.array_equal(found, rows)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_does_not_fail_twice(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool._file.close()
    spool._file = Path("/dev/full").open("w+b")  # type: ignore[assignment]  # noqa: SIM115
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as raised:
        for _ in range(100):
            spool.append(np.zeros((100, 10), np.float32))
    assert raised.value.filename == str(tmp_path)
    spool.close()
