"""Numbers and commands as people say them."""

import re
import shlex
from pathlib import Path

import pytest

import pathprep
from pathprep.storage.base import Url
from pathprep.words import command, counted, size_in_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (123_456, "123 kB"),
        (4.1e6, "4.1 MB"),
        (2e9, "2.0 GB"),
        (4.25e12, "4.2 TB"),
        (1.2e15, "1,200.0 TB"),
    ],
)
def test_sizes(value: float, words: str) -> None:
    assert size_in_words(value) == words


def test_one_is_one() -> None:
    said = [counted(0), counted(1, "tile"), counted(2000, "tile"), counted(2, "box", "boxes")]
    assert said == ["0 slides", "1 tile", "2,000 tiles", "2 boxes"]


def test_commands_can_be_typed_whatever_folders_are_called() -> None:
    folder = Path("it's here; rm -rf $HOME `x`")
    said = command("pathprep verify", folder, "--out", Url("s3://bucket/a b"))
    assert said[0] == said[-1] == "`"
    assert shlex.split(said[1:-1]) == ["pathprep", "verify", str(folder), "--out", "s3://bucket/a b"]
    assert command("pathprep verify", Path("/data/set-1")) == "`pathprep verify /data/set-1`"


def sources() -> list[Path]:
    root = Path(pathprep.__path__[0]).parent
    return [path for package in ("pathprep", "pathtrain") for path in (root / package).rglob("*.py")]


def test_no_command_is_put_together_by_hand() -> None:
    by_hand = re.compile(r"`path(?:prep|train) [^`\n]*\{[^`\n]*`")
    # a number needs no quotes; the pages' own commands are quoted where they are filled in
    fine = {"hardware.py"}
    found = [
        f"{path}: {hit[0]}"
        for path in sources()
        if path.name not in fine
        for hit in by_hand.finditer(path.read_text())
    ]
    assert found == []


def test_no_count_has_its_noun_beside_it_by_hand() -> None:
    by_hand = re.compile(
        r"\{len\([^{}]*\)(?::,)?\} (?:slides|tiles|shards|images|rows|files|groups|patients|labels|cells)\b"
    )
    found = [f"{path}: {hit[0]}" for path in sources() for hit in by_hand.finditer(path.read_text())]
    assert found == []
