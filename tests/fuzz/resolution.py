"""Writes resolutions of slides in every form, right, wrong and damaged, and looks at what is made of them.

    python tests/fuzz/resolution.py --seed 0 --cases 20000

What counts as a finding, and makes the exit code 1: an error that pathprep did not raise on purpose; the
default, or another figure, where the file states one; an error that does not quote the figure. The same seed
and number make the same case.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pathprep.errors import MppError
from pathprep.slides.mpp.header import Header
from pathprep.slides.mpp.settle import DEFAULT_MPP, MppRules, settle

DEFAULT = 7.77
UNITS = {"µm": 1.0, "um": 1.0, "\u03bcm": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6,
         "Å": 1e-4, "in": 25_400.0, "pt": 25_400 / 72, "": 1.0}  # fmt: skip
NOTHING = ("pixel", "reference frame")
WRONG = (
    "abc",
    "0",
    "-0.25",
    "NaN",
    "inf",
    "0,2,5",
    "1e999",
    "0x1p-2",
    "0_25",
    "--",
    "0.25.1",
    "1.234,5",
    "\u0663",
)
# An independent and simple reader of what is there: a key with a digit in its value
THERE = re.compile(
    r"""(?<![A-Za-z])MPP\s*=\s*["']?[^|"'<>]*[0-9]|(?<![A-Za-z])PhysicalSizeX\s*=\s*["'][^"'<>]*[0-9]|(?<![A-Za-z])mpp":\s*"?[0-9]"""
)


class Case(NamedTuple):
    """One header: its number, and what is to be made of it.

    ``expected``: micrometres; None: the default; text: an error that quotes it; "any": no crash, and no
    default where THERE finds a figure.
    """

    number: int
    description: str
    tags: tuple[Any, Any, Any]
    expected: float | str | None


def case(seed: int, number: int) -> Case:
    """Case ``number`` of a seed."""
    rng = np.random.default_rng([seed, number])
    pick = lambda options: options[int(rng.integers(len(options)))]  # noqa: E731
    mpp = float(np.round(np.exp(rng.uniform(np.log(0.06), np.log(9.0))), 5))
    kind = pick(("right", "wrong", "nothing", "tags", "contradiction", "damaged", "damaged"))
    form = pick((_aperio, _ome, _json, _lines))
    tags: tuple[Any, Any, Any] = (None, None, None)
    if kind in ("right", "damaged", "contradiction"):
        unit = pick(list(UNITS)) if form is _ome else ""
        text = form(_written(mpp / UNITS[unit], rng), unit)
        if kind == "contradiction":
            factor = pick((0.5, 2.0, 1.2, 0.8))
            tags = (10_000 / (mpp * factor),) * 2 + (3,)
            return Case(number, text, tags, "contradicts itself")
        if kind == "damaged":
            return Case(number, _damaged(text, rng), tags, "any")
        return Case(number, text, tags, mpp)
    if kind == "wrong":
        figure = pick(WRONG)
        return Case(number, form(figure, ""), tags, figure)
    if kind == "nothing":
        tags = pick(((1, 1, 1), (72, 72, 2), ((0, 1), (0, 1), 2), (None, None, None), (96, 96, None)))
        return Case(number, pick(("", "text", _ome("1", pick(NOTHING)), _aperio("", ""))), tags, None)
    unit_number, length = pick(((2, 25_400.0), (3, 10_000.0), (None, 25_400.0)))
    denominator = int(rng.integers(1, 1000))
    numerator = round(length / mpp * denominator)
    return Case(
        number, "", ((numerator, denominator),) * 2 + (unit_number,), length * denominator / numerator
    )


def judge(each: Case) -> tuple[str, str]:
    """What came of a case, ``finding`` or else, and the words."""
    header = Header(Path("a.tif"), "generic-tiff", 900, 700, each.description, "", *each.tags)
    try:
        made = settle(header.path, header.statements(), MppRules(default=DEFAULT))
    except MppError as error:
        text = str(error)
        if isinstance(each.expected, str):
            quoted = each.expected == "any" or each.expected in text or not each.expected.isascii()
            return ("refused" if quoted else "finding", text)
        return ("finding", text)
    except Exception as error:  # what this looks for
        return ("finding", f"{type(error).__name__}: {error}")
    words = f"{made.value:g} ({made.source})"
    if each.expected == "any":
        silent = made.source == DEFAULT_MPP and THERE.search(each.description)
        return ("finding" if silent else "read", words)
    if each.expected is None:
        return ("default" if made == (DEFAULT, DEFAULT_MPP) else "finding", words)
    if isinstance(each.expected, str):
        return ("finding", words)
    return ("read" if abs(made.value - each.expected) <= 1e-4 * each.expected else "finding", words)


def fuzz(seed: int, numbers: Iterable[int]) -> tuple[Counter[str], list[tuple[Case, str]]]:
    """How often what came, and the findings."""
    table: Counter[str] = Counter()
    findings = []
    for number in numbers:
        each = case(seed, number)
        outcome, words = judge(each)
        table[outcome] += 1
        if outcome == "finding":
            findings.append((each, words))
    return table, findings


def _written(value: float, rng: np.random.Generator) -> str:
    """A figure as some writer has it."""
    text = f"{value:.10g}" if rng.random() < 0.7 else f"{value:.6e}"
    return text.replace(".", ",") if rng.random() < 0.4 else text


def _aperio(figure: str, _unit: str) -> str:
    head = "Aperio Image Library v11.2.1\r\n900x700 [0,0 900x700] (240x240) JPEG/RGB Q=30"
    return f"{head}|AppMag = 20|MPP = {figure}|Left = 25,691574"


def _ome(figure: str, unit: str) -> str:
    given = " ".join(
        f'PhysicalSize{axis}="{figure}"' + (f' PhysicalSize{axis}Unit="{unit}"' if unit else "")
        for axis in "XY"
    )
    space = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    return f'<?xml version="1.0"?><OME {space}><Image><Pixels SizeX="900" SizeY="700" {given}/></Image></OME>'


def _json(figure: str, _unit: str) -> str:
    return f'{{"shape": [700, 900, 3], "mpp": "{figure}"}}'


def _lines(figure: str, _unit: str) -> str:
    return f"Scanner = X\nMPP = {figure}\nOwner: Y"


def _damaged(text: str, rng: np.random.Generator) -> str:
    """One to four letters changed, taken out or doubled, or the end cut off."""
    letters = list(text)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(letters)))
        how = int(rng.integers(5))
        if how == 0:
            letters[at] = chr(int(rng.integers(1, 256)))
        elif how == 1:
            letters[at] = "0123456789.,-\"'<>|=\0\n \ufffd"[int(rng.integers(21))]
        elif how == 2 and len(letters) > 1:
            del letters[at]
        elif how == 3:
            letters.insert(at, letters[at])
        elif rng.random() < 0.2:
            del letters[max(1, at) :]
    return "".join(letters)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    args = parser.parse_args()
    start = time.perf_counter()
    table, findings = fuzz(args.seed, range(args.first, args.first + args.cases))
    for each, words in findings[:20]:
        print(f"{each.number}: {each.description!r} {each.tags}, expected {each.expected}: {words}")
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(table.items())))
    print(f"{len(findings)} findings in {args.cases} cases, {time.perf_counter() - start:.1f} s")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
