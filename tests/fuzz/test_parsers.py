"""Drawn inputs through every parser: a result, or an error that says what is wrong; no traceback, no hang."""

from pathlib import Path
from typing import Any

import pytest
from fuzz.everything import EACH, PARSERS
from fuzz.parser import Counts, Parser, cases, drawn, fuzz, outcome
from helpers.watched import watched

from pathprep.errors import UsageError


def told(counts: Counts) -> str:
    """The findings, for the message of a failed test."""
    lines = [f"{f.parser} {f.number}: {f.outcome}: {f.words[-500:]}" for f in counts.findings]
    return "\n".join([f"{len(lines)} findings", *lines[:15]])


def test_a_few_inputs_of_every_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = list(PARSERS)
    counts, run = Counts(), cases(PARSERS, names, 0, 4, tmp_path)
    for number in range(4 * len(names)):
        counts.add(names[number // 4], number % 4, run(number))
    assert not counts.findings, told(counts)
    outcomes = {outcome for _, outcome in counts.table}
    assert outcomes == {"read", "refused"}


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PARSERS)
def test_hundreds_of_inputs(name: str) -> None:
    counts = fuzz("fuzz.everything:PARSERS", [name], seed=1, each=EACH[name])
    assert counts.table.total() == EACH[name]
    assert not counts.findings, told(counts)


def test_the_full_run_is_as_long_as_promised() -> None:
    assert sum(EACH.values()) >= 10_000


@pytest.mark.parametrize("name", PARSERS)
def test_an_input_depends_on_its_number_alone(name: str) -> None:
    examples = [b'{"a": [1, 2.5, "x"], "b": {"c": null}}', b"pathprep shard a"]
    if name == "command lines":
        examples = examples[1:]
    parser = PARSERS[name]
    made = [drawn(parser, examples[:1], 3, number) for number in range(20)]
    assert made == [drawn(parser, examples[:1], 3, number) for number in range(20)]
    assert len(set(made)) > 10


def failing(error: Exception) -> Any:
    def parse(data: bytes, folder: Path) -> None:
        raise error

    return parse


@pytest.mark.parametrize(
    ("parse", "expected"),
    [
        (lambda data, folder: None, "read"),
        (failing(UsageError("a.csv: no rows")), "refused"),
        (failing(UsageError("no rows")), "unnamed"),
        (failing(UsageError("a.csv:" + "\nx" * 5_000)), "long"),
        (failing(KeyError("x")), "traceback"),
        (failing(RecursionError("x")), "traceback"),
        (failing(MemoryError("x")), "traceback"),
    ],
)
def test_what_counts_as_a_finding(tmp_path: Path, parse: Any, expected: str) -> None:
    parser = Parser("a", lambda folder: [], parse, names=("a.csv",))
    assert outcome(parser, b"", tmp_path)[0] == expected


def test_deaths_and_hangs_are_outcomes() -> None:
    found = dict(watched("fuzz.ends:ends", (), range(5), seconds=2.0))
    assert found[1] == ("death", 7)
    assert found[2] == ("hang", 2.0)
    assert found[3][0] == "traceback"
    assert "MemoryError" in found[3][1]
    assert found[0] == found[4] == "done"
