"""One bit of a file changed at a time, and what its reader makes of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from pathprep.errors import PathprepError


def bits(path: Path, most: int | None = None) -> list[int]:
    """Numbers of a file's bits: all, or so many of them."""
    count = 8 * path.stat().st_size
    return (
        list(range(count)) if most is None or count <= most else sorted(Random(0).sample(range(count), most))
    )


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """The file with one bit changed, for a while."""
    sound = path.read_bytes()
    data = bytearray(sound)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(sound)


def silent(path: Path, read: Callable[[], Any], most: int | None = None) -> list[int]:
    """The bits whose change makes a reader give something else without an error of ours.

    Any other error than ours is raised: it would be a traceback.
    """
    sound, taken = read(), []
    for bit in bits(path, most):
        with flipped(path, bit):
            try:
                found = read()
            except PathprepError:
                continue
        if found != sound:
            taken.append(bit)
    return taken
