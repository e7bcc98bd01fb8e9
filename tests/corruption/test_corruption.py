"""Flipped bits, cuts, zeroed blocks, doubled spans in every kind of file: found or harmless, never silent."""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from corruption import kinds
from corruption.damage import KINDS as DAMAGES
from corruption.damage import damaged
from corruption.examine import Counts, cases, judge, suite
from corruption.kinds import BY_NAME, LEFT_OUT, Kind

from pathprep.errors import DatasetError

EACH = 130  # damages of a kind in the full run: 5,000 and more in all


def told(counts: Counts) -> str:
    """The findings, for the message of a failed test."""
    lines = [
        f"{f.kind} {f.number}: {f.file}, {f.damage} {f.where}: {f.outcome}: {f.words[-300:]}"
        for f in counts.findings
    ]
    return "\n".join([f"{len(lines)} findings", *lines[:20]])


def test_no_damage_is_taken_in_silence(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few of each kind, in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "place").mkdir()
    kinds = [name for name in BY_NAME if name != "seal of the log"]  # that comes and goes with the log
    counts, examine = Counts(), cases(gallery, tmp_path / "place", kinds, 0, 2)
    for number in range(2 * len(kinds)):
        counts.add(examine(number))
    assert not counts.findings, told(counts)
    assert counts.total("told") > counts.total("same")


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", BY_NAME)
def test_thousands_of_damages(gallery: Path, name: str) -> None:
    counts = suite(gallery, seed=1, each=EACH, kinds=[name])
    assert counts.table.total() == EACH
    assert not counts.findings, told(counts)


def test_the_full_run_is_as_long_as_promised() -> None:
    assert EACH * len(BY_NAME) >= 5000


def test_every_file_that_is_written_is_among_the_kinds(gallery: Path) -> None:
    """Or is left out by name, with the reason."""
    seen = {path for kind in BY_NAME.values() for path in kind.files(gallery / kind.scope)}
    names = [
        path.relative_to(gallery).as_posix()
        for path in gallery.rglob("*")
        if path.is_file() and path not in seen
    ]
    # a scope's own copy of what another scope holds
    names = [name for name in names if not name.startswith(("mapped/", "run/encoders/")) or "tiles/" in name]
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in LEFT_OUT)] == []


def test_a_damage_depends_on_its_number_alone_and_changes_something() -> None:
    data = bytes(range(256)) * 40
    made = [damaged(data, [7], number) for number in range(300)]
    assert made == [damaged(data, [7], number) for number in range(300)]
    assert all(damage.data != data for damage in made)
    assert {damage.kind for damage in made} == DAMAGES.keys()
    assert damaged(b"", [7], 0).data != b""


def refuse(words: str) -> kinds.Reader:
    def reader(root: Path) -> Any:
        raise DatasetError(words)

    return reader


def quiet(root: Path) -> Iterator[str]:
    """A verify that sees nothing."""
    yield from ()


@pytest.mark.parametrize(
    ("reader", "verify", "expected"),
    [
        (lambda root: (root / "a.json").read_bytes(), None, "silent"),
        (lambda root: (root / "a.json").read_bytes(), quiet, "silent"),
        (refuse("something is damaged"), None, "unnamed"),
        (refuse("a.json: damaged"), None, "told"),
        (refuse("a.json: damaged"), quiet, "missed"),
        (lambda root: "always the same", quiet, "same"),
    ],
)
def test_silence_would_be_found(tmp_path: Path, reader: Any, verify: Any, expected: str) -> None:
    (tmp_path / "a.json").write_bytes(b"damaged")
    kind = Kind("a", "scope", "a.json", reader, verify)
    assert judge(kind, tmp_path, tmp_path / "a.json", kinds.digest("always the same"))[0] == expected


def test_what_is_hashed_must_be_named_by_verify_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.idx").write_bytes(b"damaged")
    kind = Kind("a", "scope", "a.idx", lambda root: 1, quiet, hashed=True)
    assert judge(kind, tmp_path, tmp_path / "a.idx", kinds.digest(1))[0] == "missed"
