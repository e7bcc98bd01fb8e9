"""One mix at a time in a folder."""

import threading
from pathlib import Path

import pytest
from helpers.mixing import content, write

from pathprep.errors import BusyError
from pathprep.mixed.make import mix


def test_a_second_mix_is_told_that_another_is_at_work_and_changes_nothing(tmp_path: Path) -> None:
    """The first to end removes the folder of unfinished shards, which the second still wrote to."""
    dataset = write(tmp_path / "data", {"a": 6, "b": 5})
    mix(dataset, tmp_path / "alone", tiles_per_shard=4)
    there, go = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        there.set()
        go.wait(30)

    first = threading.Thread(
        target=mix, args=(dataset, tmp_path / "out"), kwargs={"tiles_per_shard": 4, "watch": wait}
    )
    first.start()
    assert there.wait(30)
    with pytest.raises(BusyError, match=r"out: process \d+ on .* is writing there; wait for it or stop it"):
        mix(dataset, tmp_path / "out", tiles_per_shard=4)
    go.set()
    first.join()
    assert content(tmp_path / "out") == content(tmp_path / "alone")
