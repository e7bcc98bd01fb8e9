"""What a parser under test is, and the run of many drawn inputs through it in a watched child process."""

import importlib
import logging
import os
import resource
import shutil
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import mutate
from helpers.watched import GB, watched

from pathprep.errors import PathprepError, explain_os_error

SECONDS, MEMORY = 90.0, 2 * GB  # of a case, also on a machine that has other things to do
# Words of an error: more is no sentence
LONGEST = 5000
FINDINGS = ("traceback", "unnamed", "long", "hang", "death")

Mutate = Callable[[np.random.Generator, bytes, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        name: for tables.
        examples: makes valid inputs; it gets an empty folder for what it needs to make them.
        parse: reads an input, or raises; it gets the input, and the folder of ``examples``.
        mutate: draws an input from the examples.
        errors: that it may raise.
        names: what an error must hold one of, besides the words; none: it knows no file.
    """

    name: str
    examples: Callable[[Path], list[bytes]]
    parse: Callable[[bytes, Path], Any]
    mutate: Mutate = mutate.of_bytes
    errors: tuple[type[Exception], ...] = (PathprepError,)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What came of one input: ``read``, ``refused``, or one of FINDINGS, and the words."""

    parser: str
    number: int
    outcome: str
    words: str = ""


@dataclass
class Counts:
    """Outcomes of many, and all that are findings."""

    table: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[Found] = field(default_factory=list)

    def add(self, parser: str, number: int, what: tuple[str, Any]) -> None:
        """Count one."""
        found = Found(parser, number, what[0], str(what[1]))
        self.table[parser, found.outcome] += 1
        if found.outcome in FINDINGS:
            self.findings.append(found)

    def rows(self) -> list[dict[str, Any]]:
        """A row per parser, for tables and results."""
        names = dict.fromkeys(name for name, _ in self.table)
        outcomes = ("read", "refused", *FINDINGS)
        return [{"parser": name, **{each: self.table[name, each] for each in outcomes}} for name in names]


def fuzz(parsers: str, names: Sequence[str], seed: int, each: int) -> Counts:
    """Draw inputs for parsers and look at what they make of them.

    Args:
        parsers: ``module:NAME`` of the dict of them, by name. names: those to run. each: inputs of one.
    """
    counts = Counts()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        arguments = (parsers, tuple(names), seed, each, Path(place))
        numbers = range(len(names) * each)
        for number, found in watched(
            "fuzz.parser:runner", arguments, numbers, seconds=SECONDS, memory=MEMORY
        ):
            counts.add(names[number // each], number % each, found)
    return counts


def drawn(parser: Parser, examples: Sequence[bytes], seed: int, number: int) -> bytes:
    """Input ``number`` of a seed."""
    rng = np.random.default_rng([seed, number, *parser.name.encode()])
    return parser.mutate(rng, mutate.one_of(rng, examples), examples)


def runner(parsers: str, names: Sequence[str], seed: int, each: int, place: Path) -> Callable[[int], Any]:
    """A function that puts input n % each through parser n // each."""
    import torch

    torch.set_num_threads(1)
    logging.disable()
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 20, 256 << 20))
    module, _, name = parsers.partition(":")
    known: dict[str, Parser] = getattr(importlib.import_module(module), name)
    shutil.rmtree(place)  # of a child that died
    place.mkdir()
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    return cases(known, names, seed, each, place)


def cases(
    known: Mapping[str, Parser], names: Sequence[str], seed: int, each: int, place: Path
) -> Callable[[int], tuple[str, str]]:
    """As ``runner``, in a process that has other things to do."""
    examples: dict[str, list[bytes]] = {}
    for each_name in names:
        parser, folder = known[each_name], _folder(place, each_name)
        folder.mkdir()
        examples[each_name] = parser.examples(folder)
        for example in examples[each_name]:  # loads what is loaded when it is first used
            outcome(parser, example, folder)

    def run(number: int) -> tuple[str, str]:
        name = names[number // each]
        data = drawn(known[name], examples[name], seed, number % each)
        return outcome(known[name], data, _folder(place, name))

    return run


def _folder(place: Path, name: str) -> Path:
    return place / "".join(letter if letter.isalnum() else "-" for letter in name)


def outcome(parser: Parser, data: bytes, folder: Path) -> tuple[str, str]:
    """What a parser makes of an input, and the words of its error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser.parse(data, folder)
    except parser.errors as error:
        words = str(error)
        if len(words) > LONGEST:
            return "long", f"{len(words)} letters: {words[:500]}"
        if parser.names and not any(name in words for name in parser.names):
            return "unnamed", f"{type(error).__name__}: {words}"
        return "refused", words
    except OSError as error:  # the commands say it in a line, if it knows its file
        if error.filename is None:
            return "traceback", traceback.format_exc(limit=-5)
        return "refused", explain_os_error(error)
    except Exception:
        return "traceback", traceback.format_exc(limit=-5)
    return "read", ""
