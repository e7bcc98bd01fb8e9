"""A small part of the suite: a few kills, errors and runs at once. `make chaos` runs all of it."""

import errno
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import crowds, faults, kills
from chaos.commands import COMMANDS, Command
from chaos.outcome import Undisturbed, differences, forget, undisturbed
from chaos.place import Place, State, state
from chaos.shim import CHANGES, Arm, Mode, compiler

pytestmark = [
    pytest.mark.skipif(
        compiler() is None, reason="no C compiler: the shim that kills and fails calls is not made"
    ),
    pytest.mark.xdist_group("chaos"),
]
NAMED = {command.name: command for command in COMMANDS}
CARELESS = Command("careless", "make careless {out}")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Warm processes and inputs for all tests; a short path, since a socket's has 107 letters at most."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, Place(Path(folder)) as made:
        yield made


def usually(place: Place, command: Command) -> Undisturbed:
    """What it gives undisturbed; for what gives the same each time in any case, one run is enough."""
    out = place.trial(command)
    before = state(out)
    ended = place.run(command, out, Arm([str(out)]))
    assert ended.code == 0, ended.text
    after = state(out)
    forget(out)
    return Undisturbed(before, after, 0, ended.seconds, ended.calls)


@pytest.mark.parametrize("name", ["mix", "target of a picture"])
def test_killed_it_gives_the_same_when_it_is_run_again(place: Place, name: str) -> None:
    usual = usually(place, NAMED[name])
    hit = 0
    for found in kills.trials(place, NAMED[name], usual, 2, seed=1):
        assert found.wrong == [], found.where
        hit += found.kills
    assert hit >= 2


@pytest.mark.parametrize("name", ["mix", "target of a picture"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_an_error_is_told_and_the_next_run_gives_the_same(place: Place, name: str, error: int) -> None:
    usual = usually(place, NAMED[name])
    found = [*faults.trials(place, NAMED[name], usual, 1, seed=2, errors=[error])]
    assert [(each.hit, each.wrong) for each in found] == [(True, [])]


def test_two_at_once_give_what_one_gives(place: Place) -> None:
    found = crowds.round_of(
        place, NAMED["target of a picture"], usually(place, NAMED["target of a picture"]), 3
    )
    assert (found.wrong, found.done) == ([], 3)


def test_a_careless_command_is_found_out(place: Place) -> None:
    """The suite can fail: what is written in place is torn, and a sweep that takes all is seen."""
    usual = undisturbed(place, CARELESS)
    assert {call.kind for call in usual.calls} == {"remove", "create", "write", "close"}
    wrong = [each for found in kills.trials(place, CARELESS, usual, 4, seed=3) for each in found.wrong]
    assert any(".tmp-mine" in each for each in wrong)
    assert "table.csv differs" in wrong
    found = [*faults.trials(place, CARELESS, usual, 2, seed=3, errors=[errno.ENOSPC])]
    assert any("Traceback" in each for one in found for each in one.wrong)


def test_the_nth_call_is_killed_or_fails_and_no_other(place: Place) -> None:
    usual = undisturbed(place, CARELESS)
    out = place.trial(CARELESS)
    number = next(call.number for call in usual.calls if call.kind == "write")
    ended = place.run(CARELESS, out, Arm([str(out)], CHANGES, Mode.KILL_ALL, number + 1))
    assert ended.killed
    assert (out / "table.csv").read_bytes() == b"a,b\n"
    ended = place.run(CARELESS, out, Arm([str(out)], CHANGES, Mode.TORN, 2))
    assert (out / "table.csv").read_bytes() == b"a,b\na,"
    ended = place.run(CARELESS, out, Arm([str(out)], CHANGES, Mode.FAIL_ONCE, 1, errno.EDQUOT))
    assert "Disk quota exceeded" in ended.text
    assert ended.hit is not None
    assert ended.hit.kind == "create"


def test_what_is_missing_too_many_or_other_is_told() -> None:
    usual: State = {"a": b"1", "b": b"2", "c": "folder"}
    assert differences({"a": b"1", "b": b"3", ".tmp-x": b""}, usual) == [
        "c is missing",
        ".tmp-x is too many",
        "b differs",
    ]


def test_calls_are_drawn_one_of_each_kind_and_folder_first() -> None:
    from chaos.runs import Call

    calls = [Call(number, "write", "/out/a.tar") for number in range(1, 90)] + [
        Call(90, "rename", "/out/b.json")
    ]
    assert Call(90, "rename", "/out/b.json") in faults.sample(calls, 2, random.Random(0))
