"""Damaged files of every kind, things in their places, and drawn inputs for every parser: what came of each.

    python bench/bench_damage.py damaged|replaced|fuzz|resolutions|slides|all
        [--only NAME...] [--each N] [--seed N] [--json [FILE]]

    damaged      flipped bits, cuts, zeroed blocks and more in every kind of file that is written
    replaced     pipes, devices, folders, links and nothing in the place of each
    fuzz         drawn inputs for every parser
    resolutions  every form in which a slide can state its resolution, right, wrong and damaged
    slides       small slides of several kinds with changed bytes, sharded

The suites are those of tests/corruption and tests/fuzz (`make damage`). Each kind and parser is written to
the results as soon as it is done; those that are not run again stay there as they were. The exit code is 1 if
anything was found.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from machine import add_json, describe, save, tag  # noqa: E402

FILE = "damage"
RESOLUTIONS, SLIDES = 10_000, 1_000


AT_ONCE = 4  # kinds or parsers in one child process, which takes seconds to start


def batched(names: Iterable[str], size: int) -> Iterator[list[str]]:
    """Names in lists of a size."""
    left = list(names)
    for start in range(0, len(left), size):
        yield left[start : start + size]


class Row(NamedTuple):
    """What came of a kind or parser: how many of each outcome, and all findings."""

    name: str
    counts: dict[str, int]
    found: list[dict[str, Any]]


def corruption(seed: int, each: int | None, only: Sequence[str], replaced: bool) -> Iterator[Row]:
    """Every kind of file, damaged or replaced."""
    from corruption import gallery
    from corruption.damage import IN_ITS_PLACE
    from corruption.examine import suite, summary
    from corruption.kinds import BY_NAME
    from corruption.test_corruption import EACH

    with tempfile.TemporaryDirectory(prefix="gallery-") as place:
        root = gallery.make(Path(place))
        many = len(IN_ITS_PLACE) if replaced else each or EACH
        for names in batched(only or BY_NAME, AT_ONCE):
            done = suite(root, None if replaced else seed, many, names)
            for row in summary(done):
                name = row.pop("kind")
                yield Row(name, row, [vars(one) for one in done.findings if one.kind == name])


def fuzz(seed: int, each: int | None, only: Sequence[str]) -> Iterator[Row]:
    """Every parser."""
    from fuzz.everything import EACH
    from fuzz.parser import fuzz as run

    for many in sorted(set(EACH.values()), reverse=True):
        chosen = [name for name in only or EACH if EACH[name] == many]
        for names in batched(chosen, AT_ONCE):
            done = run("fuzz.everything:PARSERS", names, seed, each or many)
            for row in done.rows():
                name = row.pop("parser")
                yield Row(name, row, [vars(one) for one in done.findings if one.parser == name])


def resolutions(seed: int, each: int | None, only: Sequence[str]) -> Iterator[Row]:
    """Every resolution that a slide can state."""
    from fuzz.resolution import fuzz as run

    table, findings = run(seed, range(each or RESOLUTIONS))
    yield Row("resolutions", dict(table), [{"number": case.number, "words": said} for case, said in findings])


def slides(seed: int, each: int | None, only: Sequence[str]) -> Iterator[Row]:
    """Small slides of each kind."""
    from fuzz.slides import FINDINGS
    from fuzz.slides import fuzz as run

    with tempfile.TemporaryDirectory(prefix="slides-") as folder:
        table, findings = run(Path(folder), seed, range(each or SLIDES))
    counts = Counter({"refused": 0, **dict.fromkeys(FINDINGS, 0)})
    for (_, _, kind), count in table.items():
        counts[kind] += count
    found = [{"number": m.number, "base": m.base, "how": m.how, "words": str(said)} for m, said in findings]
    yield Row("slides", dict(counts), found)


PARTS: dict[str, Callable[[int, int | None, Sequence[str]], Iterator[Row]]] = {
    "damaged": partial(corruption, replaced=False),
    "replaced": partial(corruption, replaced=True),
    "fuzz": fuzz,
    "resolutions": resolutions,
    "slides": slides,
}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--only", nargs="+", default=(), help="kinds of file, or parsers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, help="damages of a kind, inputs of a parser")
    add_json(parser)
    args = parser.parse_args()
    path = args.json
    if path == Path():
        path = Path(__file__).parent / "results" / f"{FILE}-{tag(describe())}.json"
    findings = 0
    for part in PARTS if args.part == "all" else [args.part]:
        start = time.perf_counter()
        for row in PARTS[part](args.seed, args.each, args.only):
            seconds, start = round(time.perf_counter() - start, 1), time.perf_counter()
            findings += len(row.found)
            print(f"{part}, {row.name}: {row.counts}, {seconds} s", flush=True)
            for one in row.found:
                print(json.dumps(one), flush=True)
            if path is not None:
                before = json.loads(path.read_bytes()) if path.exists() else {}
                before.pop("machine", None)
                entry = {"seed": args.seed, "seconds": seconds, **row.counts, "found": row.found}
                save(path, FILE, {**before, part: {**before.get(part, {}), row.name: entry}})
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
