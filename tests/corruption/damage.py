"""Ways to damage a file's bytes, drawn by a seed: what disks, copies and kills do to files."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

# How often each is made. A flipped bit is the hardest to see
KINDS = {"bit": 0.5, "byte": 0.15, "cut": 0.13, "zeros": 0.13, "double": 0.09}
BLOCKS = (512, 4096)


class Damage(NamedTuple):
    """What was done to a file: the kind, where, and the bytes that it has now."""

    kind: str
    where: str
    data: bytes


def damaged(data: bytes, seed: Sequence[int], number: int) -> Damage:
    """Damage ``number`` of a seed to these bytes; it always changes them.

    A bit is flipped, a byte overwritten, the end cut off (now and then all of it), a block of 512 or 4096
    bytes zeroed, or a span doubled, as a copy that was begun again does it.
    """
    rng = np.random.default_rng([*seed, number])
    while True:
        found = _draw(data, rng)
        if found.data != data:
            return found


def _draw(data: bytes, rng: np.random.Generator) -> Damage:
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if not data:
        return Damage("byte", "an empty file", bytes([int(rng.integers(256))]))
    out, at = bytearray(data), int(rng.integers(len(data)))
    if kind == "bit":
        bit = int(rng.integers(8))
        out[at] ^= 1 << bit
        return Damage(kind, f"{bit} of byte {at}", bytes(out))
    if kind == "byte":
        out[at] = int(rng.integers(256))
        return Damage(kind, f"{at} to {out[at]}", bytes(out))
    if kind == "cut":
        at = int(rng.choice([0, at, at, at, len(data) - 1]))
        return Damage(kind, f"to {at} of {len(data)} bytes", data[:at])
    if kind == "zeros":
        block = int(rng.choice(BLOCKS))
        start = at - at % block
        out[start : start + block] = bytes(len(out[start : start + block]))
        return Damage(kind, f"{block} bytes from {start}", bytes(out))
    size = len(data) if rng.random() < 0.5 else int(rng.integers(1, len(data) - at + 1))
    start = 0 if size == len(data) else at
    return Damage(kind, f"{size} bytes from {start}", data[: start + size] + data[start:])


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_bytes(b"")


# What may lie in a file's place: pipes wait for ever, devices never end, links lead round in circles
IN_ITS_PLACE: dict[str, Callable[[Path], None]] = {
    "pipe": lambda path: os.mkfifo(path),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty device": lambda path: path.symlink_to("/dev/null"),
    "folder": _folder,
    "loop": lambda path: path.symlink_to(path.name),
    "broken link": lambda path: path.symlink_to("gone"),
    "nothing": lambda path: None,
}


def replace(path: Path, what: str) -> None:
    """Put something else in a file's place."""
    path.unlink()
    IN_ITS_PLACE[what](path)
