"""Sharing a batch out: every tile once, on as many threads as are worth it."""

from threading import Barrier, Event, get_ident
from unittest.mock import patch

import pytest

from pathprep.kernels.threads_cpu import share_out


@pytest.mark.parametrize(
    ("count", "pixels", "threads", "workers"),
    [
        (1, 1 << 24, 4, 1),  # never more than tiles
        (3, 1 << 24, 4, 3),
        (100, 1 << 16, 4, 4),
        (100, 1 << 16, 1, 1),
        (100, 64, 4, 1),  # less work than starting a thread
        (12, 1 << 16, 4, 2),
        (0, 64, 4, 1),
    ],
)
def test_work_is_shared_out_once(count: int, pixels: int, threads: int, workers: int) -> None:
    together = Barrier(workers)
    seen: dict[int, list[slice]] = {}

    def work(part: slice) -> None:
        if get_ident() not in seen:
            seen[get_ident()] = []
            together.wait(20)  # all of them, or BrokenBarrierError
        seen[get_ident()].append(part)

    share_out(work, count, pixels, threads)
    assert len(seen) == workers
    assert sorted(i for parts in seen.values() for part in parts for i in range(count)[part]) == list(
        range(count)
    )
    assert get_ident() in seen


def test_none_is_a_thread_per_core_this_process_may_use() -> None:
    idents = set()
    together = Barrier(3)

    def work(part: slice) -> None:
        if get_ident() not in idents:
            idents.add(get_ident())
            together.wait(20)

    with patch("os.sched_getaffinity", return_value={0, 3, 7}):
        share_out(work, 100, 1 << 20, None)
    assert len(idents) == 3


def test_an_error_in_a_thread_is_raised() -> None:
    caller = get_ident()
    started = Event()

    def work(part: slice) -> None:
        if get_ident() != caller:
            started.set()
            raise MemoryError
        assert started.wait(20)

    with pytest.raises(MemoryError):
        share_out(work, 100, 1 << 20, 2)
