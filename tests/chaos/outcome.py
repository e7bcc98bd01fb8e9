"""What a command gives undisturbed, and what is wrong with what it gave after a disturbance."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.commands import Command
from chaos.place import Place, State, lost, state
from chaos.runs import Call, Ended
from chaos.shim import Arm

# What a user must not see
RAW = re.compile(r"Traceback \(most recent call last\)|\[Errno \d+\]|^\w*(Error|Exception): ", re.MULTILINE)


@dataclass(frozen=True)
class Undisturbed:
    """What a command gives: the state before and after it, its exit code, time and calls."""

    before: State
    after: State
    code: int
    seconds: float
    calls: Sequence[Call]


def undisturbed(place: Place, command: Command) -> Undisturbed:
    """Run a command twice, in two folders.

    Raises:
        RuntimeError: it fails, or gives something else the second time.
    """
    outs = [place.trial(command) for _ in range(2)]
    before = state(outs[0])
    ends = [place.run(command, out, Arm([str(out)])) for out in outs]
    states = [state(out) for out in outs]
    if ends[0].code:
        raise RuntimeError(f"{command.name}: ends with {ends[0].code}: {ends[0].text}")
    if unlike := differences(states[1], states[0]):
        raise RuntimeError(f"{command.name}: two undisturbed runs differ: {unlike}")
    if text := place.check(command, outs[0]):
        raise RuntimeError(f"{command.name}: check finds {text}")
    for out in outs:
        forget(out)
    return Undisturbed(before, states[0], ends[0].code, ends[1].seconds, ends[0].calls)


def forget(out: Path) -> None:
    """Remove a trial that is over."""
    shutil.rmtree(out.parent, ignore_errors=True)


def differences(mine: State, usual: State) -> list[str]:
    """Names that are missing, too many, or of other content."""
    found = [f"{name} is missing" for name in usual if name not in mine]
    found += [f"{name} is too many" for name in mine if name not in usual]
    return found + [f"{name} differs" for name in mine if name in usual and mine[name] != usual[name]]


def raw(ended: Ended, out: Path) -> list[str]:
    """What a user must not see, with what stands around it."""
    text = ended.text.replace(str(out), "{out}")
    match = RAW.search(text)
    return [] if match is None else [f"says: {text[max(0, match.start() - 300) : match.end() + 1500]}"]


def complaints(ended: Ended, usual: Undisturbed, out: Path) -> list[str]:
    """What is wrong with how an undisturbed run after a disturbance ended."""
    said = ended.text.replace(str(out), "{out}")[-600:]
    found = []
    if ended.hung:
        found.append(f"hung: {said}")
    if ended.code != usual.code:
        found.append(f"ends with {ended.code}: {said}")
    if ended.stray:
        found.append("leaves processes behind")
    return found + raw(ended, out)


def unlike(command: Command, now: State, usual: Undisturbed) -> list[str]:
    """How a folder differs from what an undisturbed run leaves, but for what further starts shed."""
    kept = {name: data for name, data in now.items() if not command.is_shed(name)}
    return differences(kept, usual.after)


def whole(place: Place, command: Command, usual: Undisturbed, out: Path) -> list[str]:
    """What is wrong with a folder that must be as after an undisturbed run; a sound one is removed."""
    found = [f"strangers' {name} gone" for name in lost(command, out)]
    found += unlike(command, state(out), usual)
    if text := place.check(command, out):
        found.append(f"check: {text.replace(str(out), '{out}')[-400:]}")
    if not found:
        forget(out)
    return found
