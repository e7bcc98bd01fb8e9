"""`make gpu`: everything that is to be known of a card, by one command.

    python bench/gpu/run.py                    all parts, and the tables of README and site
    python bench/gpu/run.py --only tests slide     some of them; results of others stay
    python bench/gpu/run.py --rehearse         every part tiny, on the CPU, into build/gpu/rehearsal

A part has its own process and time limit; one that fails does not stop the next, and what was measured by
then is kept. Results: bench/results/gpu-<machine>/, with run.json (the card, its driver and clocks, the date,
how each part ended), a log of each part and its figures.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # bench/machine.py

import table
from machine import cards, describe, tag
from parts import BENCH, Place, parts
from runner import run

WORK = BENCH.parent / "build" / "gpu"


def main() -> int:
    """The exit code: 0 if every part passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PART", help="these alone")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--work", type=Path, default=WORK, help="slides and datasets are made there")
    parser.add_argument("--seconds", type=float, help="for all: what does not fit into the rest is left out")
    options = parser.parse_args()
    tiny = options.rehearse
    usual = WORK / "rehearsal" if tiny else BENCH / "results" / f"gpu-{tag(describe())}"
    out = options.out or usual
    place = Place(out.resolve(), (options.work / "tiny" if tiny else options.work).resolve(), tiny)
    every = parts(place)
    names = [part.name for part in every]
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"no part {min(unknown)}; there are {', '.join(names)}")
    if not tiny and not cards():
        print(f"skipped, as there is no card: {', '.join(names)}")
        print("make gpu: nvidia-smi finds no NVIDIA GPU, so nothing was measured", file=sys.stderr)
        return 1
    # the project as it is here, and the plugins of its tests
    places = [BENCH.parent, BENCH.parent / "tests", *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, places))
    chosen = [part for part in every if not options.only or part.name in options.only]
    record = run(chosen, place.out, seconds=options.seconds, folder=BENCH.parent)
    said = "Of a rehearsal, which says nothing of a card:\n\n" if tiny else ""
    print(f"\n{said}{table.table(table.ROWS, [place.out])}\n\nResults: {place.out}")
    if not tiny and options.out is None:
        table.write()
    bad = [name for name in names if record["parts"].get(name, {}).get("state", "passed") != "passed"]
    left = [part.name for part in chosen if part.name not in record["parts"]]
    for said, which in (("not passed", bad), ("left out", left)):
        if which:
            print(f"make gpu: {said}: {', '.join(which)}", file=sys.stderr)
    return 1 if bad or left else 0


if __name__ == "__main__":
    sys.exit(main())
