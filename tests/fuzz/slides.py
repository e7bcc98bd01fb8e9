"""Damages small slides at random and shards them, in child processes with limits on memory and time.

    python tests/fuzz/slides.py --seed 0 --mutations 3000

Prints how many slides of each kind were refused, accepted with their own pixels, and so on. What counts
as a finding, and makes the exit code 1: the death of a child, a timeout, an error that pathprep did not
raise on purpose, and an accepted tile that is another picture than the undamaged slide's. The same seed
and number make the same bytes: --keep FOLDER keeps the files of findings.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from helpers.damaged_slides import KINDS, Anatomy, Outcome, anatomy, examine_all, write_base

FINDINGS = ("gross", "crash", "timeout", "unexpected")
# Garbage that nothing can tell from tissue is counted as ``unseen``, not as a finding (pathprep/damage.py): a
# slide of one level has nothing to be compared with, and JPEG 2000, whose decoders hardly ever complain, can
# turn into noise of the right mean colour; so, now and then, can a damaged quantisation table.
BLIND = {("single", part) for part in ("structure", "tags", "tiles")} | {("jp2k", "tiles"), ("rgb", "tiles")}
# Tags that say what a level is. They are set to a value that TIFF knows, in one page or in all
TAGS: dict[str, tuple[int, ...]] = {
    "NewSubfileType": (0, 1, 2, 4),
    "ImageWidth": (64, 127, 128, 192, 256, 384, 511, 512, 513, 576, 1024),
    "ImageLength": (64, 96, 128, 192, 256, 383, 384, 385, 448, 768),
    "TileWidth": (16, 32, 128, 256),
    "TileLength": (16, 32, 128, 256),
    "BitsPerSample": (1, 4, 12, 16, 32),
    "SampleFormat": (2, 3, 4),
    "SamplesPerPixel": (1, 2, 4, 5),
    "PhotometricInterpretation": (0, 1, 2, 3, 5, 6, 8),
    "Compression": (1, 5, 7, 8, 33003, 33005, 34712, 50001),
    "PlanarConfiguration": (2,),
    "ResolutionUnit": (1, 2, 3),
}
# Kinds of change and how often each is made
CHANGES = {"bit": 0.45, "byte": 0.15, "number": 0.15, "run": 0.1, "copy": 0.07, "swap": 0.07, "cut": 0.01}
INTERESTING = (0, 1, 2, 3, 7, 16, 255, 4096, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Mutation(NamedTuple):
    """One damaged slide: its number, the base that it comes of, and what was done to it."""

    number: int
    base: str
    where: str
    how: str
    data: bytes


def mutate(seed: int, number: int, bases: dict[str, tuple[bytes, Anatomy]]) -> Mutation:
    """Mutation ``number`` of a seed: one to four changes, all in the structure or all in tile data."""
    rng = np.random.default_rng([seed, number])
    base = str(rng.choice(list(bases)))
    data, parts = bases[base]
    out = bytearray(data)
    where = str(rng.choice(["structure", "tags", "tiles"]))
    if where == "tags":
        return Mutation(number, base, where, _retag(rng, out, parts), bytes(out))
    if where == "structure":
        spans = parts.structure
    else:
        # as often in a reduced level as in the first, although it has fewer tiles
        spans = parts.tiles[int(rng.integers(len(parts.tiles)))]
    done = []
    for _ in range(int(rng.integers(1, 5))):
        start, length = spans[int(rng.integers(len(spans)))]
        at = min(start + int(rng.integers(length)), len(out) - 8)
        room = len(out) - at
        how = str(rng.choice(list(CHANGES), p=list(CHANGES.values())))
        if at < 0:
            break
        if how == "bit":
            out[at] ^= 1 << int(rng.integers(8))
        elif how == "byte":
            out[at] = int(rng.integers(256))
        elif how == "number":
            size = int(rng.choice([2, 4, 8]))
            value = int(rng.choice(INTERESTING)) & ((1 << 8 * size) - 1)
            out[at : at + size] = value.to_bytes(size, _order(out))
        elif how == "run":
            size = min(int(rng.integers(1, 64)), room)
            out[at : at + size] = bytes([int(rng.choice([0, 255]))]) * size
        elif how == "copy":
            size = min(int(rng.integers(1, 256)), room)
            source = int(rng.integers(len(out) - size + 1))
            out[at : at + size] = out[source : source + size]
        elif how == "swap":
            size = min(int(rng.integers(1, 16)), room // 2)
            out[at : at + 2 * size] = out[at + size : at + 2 * size] + out[at : at + size]
        else:
            del out[at:]
        done.append(f"{how}@{at}")
    return Mutation(number, base, where, " ".join(done), bytes(out))


def _order(data: bytearray) -> Literal["little", "big"]:
    return "big" if data[:2] == b"MM" else "little"


def _retag(rng: np.random.Generator, out: bytearray, parts: Anatomy) -> str:
    """Give one or two tags another value, or the header another byte order; says what was done."""
    if rng.random() < 0.03:
        out[:2] = b"II" if out[:2] == b"MM" else b"MM"
        return "byte order"
    done = []
    for _ in range(int(rng.integers(1, 3))):
        name = str(rng.choice(list(TAGS)))
        value = int(rng.choice(TAGS[name]))
        one = int(rng.integers(len(parts.pages)))
        every = rng.random() < 0.5
        for number, page in enumerate(parts.pages):
            if name in page and (every or number == one):
                place = page[name]
                for item in range(place.count):
                    at = place.value + item * place.item
                    out[at : at + place.item] = value.to_bytes(place.item, _order(out))
        done.append(f"{name}={value}@{'all' if every else one}")
    return " ".join(done)


def fuzz(
    folder: Path, seed: int, numbers: Sequence[int], workers: int = 2, keep: Path | None = None
) -> tuple[Counter[tuple[str, str, str]], list[tuple[Mutation, Outcome]]]:
    """Run some mutations.

    Returns:
        How often each (base, where, outcome) came, and the findings.
    """
    bases = {}
    for name, kind in KINDS.items():
        path = write_base(folder / f"base-{name}{kind['suffix']}", name)
        bases[name] = (path.read_bytes(), anatomy(path))
    table: Counter[tuple[str, str, str]] = Counter()
    findings = []
    for first in range(0, len(numbers), 200):  # so that a few hundred small files lie about, not thousands
        made = [mutate(seed, number, bases) for number in numbers[first : first + 200]]
        paths = [folder / f"{m.number}{KINDS[m.base]['suffix']}" for m in made]
        for path, mutation in zip(paths, made, strict=True):
            path.write_bytes(mutation.data)
        for path, mutation, outcome in zip(paths, made, examine_all(paths, workers), strict=True):
            kind = outcome.kind
            if kind == "gross" and (mutation.base, mutation.where) in BLIND:
                kind = "unseen"
            table[mutation.base, mutation.where, kind] += 1
            if kind in FINDINGS:
                findings.append((mutation, outcome))
                if keep is not None:
                    shutil.copy(path, keep / path.name)
            path.unlink()
    return table, findings


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutations", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    args = parser.parse_args()
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    numbers = range(args.first, args.first + args.mutations)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        table, findings = fuzz(Path(folder), args.seed, numbers, args.workers, args.keep)
    kinds = ["refused", "equal", "differs", "unseen", *FINDINGS]
    print(f"{'base':10}{'where':12}" + "".join(f"{kind:>11}" for kind in kinds))
    for base, where in sorted({key[:2] for key in table}):
        print(f"{base:10}{where:12}" + "".join(f"{table[base, where, kind]:11}" for kind in kinds))
    totals = Counter(kind for *_, kind in table.elements())
    print(f"{'total':22}" + "".join(f"{totals[kind]:11}" for kind in kinds))
    for mutation, outcome in findings:
        print(f"{mutation.number} {mutation.base} {mutation.how}: {outcome}")
    print(f"{len(findings)} findings in {args.mutations} mutations, {time.perf_counter() - start:.0f} s")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
