"""Cases in a child process with limits on memory and time, which is started again after it died.

Damaged files may do what no exception tells: take all memory, wait for ever, kill the process. Each is an
outcome here like any other.
"""

import importlib
import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

Case = Callable[[int], Any]
GB = 1 << 30


def watched(
    maker: str,
    arguments: tuple[Any, ...],
    numbers: Sequence[int],
    *,
    seconds: float = 30.0,
    memory: int = 3 * GB,
    start: float = 300.0,
) -> Iterator[tuple[int, Any]]:
    """What became of each case, in their order.

    Args:
        maker: ``module:function``; called in the child with ``arguments`` it gives what is called with each
            number. What that returns is what comes out.
        seconds: that a case may take. memory: that the child may take beyond what it has when it is ready.
        start: seconds that the child may take to be ready.

    Yields:
        The number, and what was returned; or ``("hang", seconds)``, ``("death", exit code)``, or
        ``("traceback", text)`` for an exception.
    """
    left = list(numbers)
    context = multiprocessing.get_context("spawn")
    while left:
        ours, theirs = context.Pipe()
        child = context.Process(target=_child, args=(theirs, maker, arguments, left, memory))
        child.start()
        theirs.close()
        try:
            if not ours.poll(start):
                raise RuntimeError(f"{maker}: not ready after {start:g} s")
            try:
                ready = ours.recv()
            except EOFError:
                raise RuntimeError(f"{maker}: could not be made, see above") from None
            assert ready == "ready", ready
            while left:
                if not ours.poll(seconds):
                    yield left.pop(0), ("hang", seconds)
                    break
                try:
                    found = ours.recv()
                except EOFError:
                    child.join()
                    yield left.pop(0), ("death", child.exitcode)
                    break
                yield left.pop(0), found
        finally:
            child.kill()
            child.join()
            ours.close()


def _child(pipe: Connection, maker: str, arguments: tuple[Any, ...], numbers: list[int], memory: int) -> None:
    module, _, name = maker.partition(":")
    case: Case = getattr(importlib.import_module(module), name)(*arguments)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _mapped() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send("ready")
    for number in numbers:
        try:
            found = case(number)
        except Exception:
            found = ("traceback", traceback.format_exc(limit=-4))
        pipe.send(found)
    pipe.close()
    time.sleep(0.01)
    os._exit(0)  # threads of libraries that a damaged file has stopped do not hold it up


def _mapped() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
