"""Damaged files of every kind, things in their places, and drawn inputs for every parser: what came of each.

    python bench/bench_damage.py corruption|fuzz|all [--each N] [--seed N] [--json [FILE]]

The suites are those of tests/corruption and tests/fuzz (`make damage`). Results of one part replace those of
the same part in the file; the other part's stay. The exit code is 1 if anything was found.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from machine import add_json, describe, save, tag  # noqa: E402

FILE = "damage"


def corruption(seed: int, each: int | None) -> dict[str, Any]:
    """Every kind of file, damaged and replaced."""
    from corruption import gallery
    from corruption.damage import IN_ITS_PLACE
    from corruption.examine import FINDINGS, suite, summary
    from corruption.kinds import BY_NAME
    from corruption.test_corruption import EACH

    with tempfile.TemporaryDirectory(prefix="gallery-") as place:
        root = gallery.make(Path(place))
        damaged = suite(root, seed, each or EACH)
        replaced = suite(root, None, len(IN_ITS_PLACE))
    return {
        "seed": seed,
        "kinds": len(BY_NAME),
        "damages": damaged.table.total(),
        "by_damage": dict(damaged.damages),
        "silent": damaged.total("silent") + replaced.total("silent"),
        "findings": sum(damaged.total(one) + replaced.total(one) for one in FINDINGS),  # type: ignore[arg-type]
        "damaged": summary(damaged),
        "replaced": summary(replaced),
        "found": [vars(each) for each in (*damaged.findings, *replaced.findings)],
    }


def fuzz(seed: int, each: int | None) -> dict[str, Any]:
    """Every parser, and every resolution that a slide can state."""
    from fuzz import resolution
    from fuzz.everything import EACH, PARSERS
    from fuzz.parser import fuzz as run

    counts = run("fuzz.everything:PARSERS", list(PARSERS), seed, each or EACH)
    table, findings = resolution.fuzz(seed, range(10_000))
    return {
        "seed": seed,
        "parsers": len(PARSERS),
        "inputs": counts.table.total(),
        "findings": len(counts.findings) + len(findings),
        "outcomes": counts.rows(),
        "resolutions": {"inputs": 10_000, **table},
        "found": [vars(each) for each in counts.findings],
    }


PARTS = {"corruption": corruption, "fuzz": fuzz}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, help="damages of a kind, inputs of a parser")
    add_json(parser)
    args = parser.parse_args()
    path = args.json
    if path == Path():
        path = Path(__file__).parent / "results" / f"{FILE}-{tag(describe())}.json"
    findings = 0
    for name in PARTS if args.part == "all" else [args.part]:
        start = time.perf_counter()
        done = PARTS[name](args.seed, args.each)
        done["seconds"] = round(time.perf_counter() - start, 1)
        findings += done["findings"]
        print(
            json.dumps({key: value for key, value in done.items() if not isinstance(value, list)}, indent=1)
        )
        for each in done["found"]:
            print(json.dumps(each))
        if path is not None:
            before = json.loads(path.read_bytes()) if path.exists() else {}
            before.pop("machine", None)
            save(path, FILE, {**before, name: done})
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
