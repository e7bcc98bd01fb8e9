"""Cases that a benchmark times side by side: one that fails is named and left out, the others go on."""

from collections.abc import Callable
from typing import NamedTuple

from machine import interleave

Calls = dict[str, Callable[[], object]]


class Timed(NamedTuple):
    """Seconds of each call of each case, and what the cases said that failed."""

    seconds: dict[str, list[float]]
    failed: dict[str, str]


def on_cpu(calls: Calls, rounds: int) -> Timed:
    """By the host's clock; each is called twice before."""
    working, failed = _tried(calls)
    return Timed(interleave(working, rounds), failed)


def on_card(calls: Calls, rounds: int) -> Timed:
    """By events of CUDA's default stream, in which calls must leave their work: what the host does between
    them costs nothing, as long as it is ahead."""
    import cupy

    def finished(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            call()
            cupy.cuda.Stream.null.synchronize()

        return run

    working, failed = _tried({name: finished(call) for name, call in calls.items()})
    seconds: dict[str, list[float]] = {name: [] for name in working}
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    for _ in range(rounds):
        for name in working:
            start.record()
            calls[name]()
            end.record()
            end.synchronize()
            seconds[name].append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
    return Timed(seconds, failed)


def _tried(calls: Calls) -> tuple[Calls, dict[str, str]]:
    working, failed = {}, {}
    for name, call in calls.items():
        try:
            call()  # compiles, and touches the memory
            call()
        except Exception as error:  # whatever a case of one library says must not cost the others
            failed[name] = f"{type(error).__name__}: {error}"
        else:
            working[name] = call
    return working, failed
