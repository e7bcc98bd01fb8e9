"""Batches of tiles on several cores: kernels that hold no GIL, called from threads made for the call."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# Starting and joining a thread takes 0.2 ms; fitting these pixels, or applying matrices to them, 0.5 to 1 ms.
THREAD_PIXELS = 1 << 19


def share_out(work: Callable[[slice], None], count: int, pixels: int, threads: int | None) -> None:
    """Call ``work`` on slices of range(count), from this thread and more made for the call.

    None is one thread per core that this process may use. There are never more than tiles (``count``), nor
    so many that starting one takes longer than its share. No pool outlives the call: callers fork.
    """
    wanted = len(os.sched_getaffinity(0)) if threads is None else threads
    workers = min(wanted, count, 1 + count * pixels // THREAD_PIXELS)
    if workers <= 1:
        work(slice(0, count))
        return
    # Glass takes half the time of tissue, and threads start late: each takes the next slice when it is
    # done with one, and slices get smaller towards the end.
    slices, start = [], 0
    while start < count:
        slices.append(slice(start, start + max(1, (count - start) // (2 * workers))))
        start = slices[-1].stop
    queue = iter(slices)

    def take() -> None:
        for part in queue:
            work(part)

    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(take) for _ in range(workers - 1)]
        take()
    for other in others:
        other.result()
