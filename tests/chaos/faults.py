"""Errors of the system: told in one line with a way out, nothing lost, and the same command goes on."""

import errno
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.commands import Command
from chaos.outcome import Undisturbed, complaints, raw, unlike, whole
from chaos.place import Place, State, lost, state
from chaos.runs import Call, Ended
from chaos.shim import ERRORS, Arm, Kind


@dataclass(frozen=True)
class Failed:
    """A trial: one error, then the command undisturbed.

    Attributes:
        error: its name. hit: whether the run came to the call. borne: whether it ended well all the same.
        where: the call. wrong: what was found wrong.
    """

    error: str
    hit: bool
    borne: bool
    where: str
    wrong: list[str]


def numbered(calls: Sequence[Call], kinds: Kind) -> list[Call]:
    """The calls of some kinds, counted as the shim counts them when it looks at these alone."""
    chosen = [call for call in calls if Kind[call.kind.upper()] in kinds]
    return [Call(number, call.kind, call.path) for number, call in enumerate(chosen, 1)]


def sample(calls: Sequence[Call], most: int, rng: random.Random) -> list[Call]:
    """At most so many: one of each kind on each file first."""
    if len(calls) <= most:
        return [*calls]
    seen: set[tuple[str, str]] = set()
    first: list[Call] = []
    rest: list[Call] = []
    for call in rng.sample(calls, len(calls)):
        key = call.kind, Path(call.path).suffix + str(Path(call.path).parent)
        (rest if key in seen else first).append(call)
        seen.add(key)
    return sorted((first + rest)[:most], key=lambda call: call.number)


def trial(place: Place, command: Command, usual: Undisturbed, error: int, call: Call) -> Failed:
    """Let one call fail, or all from it on; then run the command undisturbed, and compare."""
    out = place.trial(command)
    kinds, mode = ERRORS[error]
    ended = place.run(command, out, Arm([str(out)], kinds, mode, call.number, error))
    at = ended.hit or call
    where = f"{at.number} {at.kind} {at.path}".replace(str(out), "")
    wrong = _told(ended, error, out) if ended.hit is not None else []
    now = state(out)
    if ended.code == 0:
        wrong += [f"ends well, but {each}" for each in unlike(command, now, usual)]
    wrong += [f"strangers' {name} gone" for name in lost(command, out)]
    wrong += _torn(now, usual, command.remakes)
    if not wrong or not ended.hung:
        last = place.run(command, out)
        wrong += [f"then: {each}" for each in complaints(last, usual, out)]
        wrong += [f"then: {each}" for each in whole(place, command, usual, out)]
    return Failed(errno.errorcode[error], ended.hit is not None, ended.code == 0, where, wrong)


def _told(ended: Ended, error: int, out: Path) -> list[str]:
    """What is wrong with what a run said of the error."""
    said = ended.text.replace(str(out), "{out}")[-700:]
    if ended.hung:
        return [f"hung: {said}"]
    if ended.code < 0:
        return [f"died of signal {-ended.code}: {said}"]
    found = raw(ended, out)
    if ended.code == 0:
        return found
    words = [line for line in ended.text.splitlines() if os.strerror(error) in line]
    within = os.path.relpath(Path((ended.hit or Call(0, "", "")).path).parent, out)  # a dataset tells no more
    if not any(str(out) in line or f" {within}{os.sep}" in line for line in words):
        found.append(f"names no file with {os.strerror(error)}: {said}")
    return found


def _torn(now: State, usual: Undisturbed, remakes: bool) -> list[str]:
    """Files that are neither as before nor as after, under names that readers look at."""
    found = []
    for name, data in now.items():
        known = {usual.before.get(name), usual.after.get(name)} - {None}
        if remakes and name.startswith("slides/"):
            continue
        if name in usual.after and data not in known and not GROWS.intersection(Path(name).parts):
            found.append(f"{name} is neither old nor new")
    if not remakes:
        found += [f"{name} is gone" for name in usual.before if name in usual.after and name not in now]
    return found


# Lines are added, or it is a place of what is not done yet
GROWS = {"log.jsonl", "failed", "run.json", "checkpoints"}


def trials(
    place: Place,
    command: Command,
    usual: Undisturbed,
    most: int,
    seed: int,
    errors: Sequence[int] = tuple(ERRORS),
) -> Iterator[Failed]:
    """A trial for each error at each call, at most so many for each error."""
    rng = random.Random(f"{seed} {command.name}")
    for error in errors:
        for call in sample(numbered(usual.calls, ERRORS[error][0]), most, rng):
            yield trial(place, command, usual, error, call)
