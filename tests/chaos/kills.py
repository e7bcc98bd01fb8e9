"""Kills: after them the same command gives what it gives undisturbed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.commands import Command
from chaos.outcome import Undisturbed, complaints, whole
from chaos.place import Place, lost
from chaos.runs import Ended
from chaos.shim import CHANGES, Arm, Mode

IN_A_ROW = (1, 1, 1, 2, 3, 5)  # kills before the command is left alone
AT_A_CALL = 0.8  # of all kills; the rest come after a time


@dataclass(frozen=True)
class Killed:
    """A trial: kills in a row, then the command undisturbed.

    Attributes:
        kills: that hit. where: what each hit. wrong: what was found wrong.
    """

    kills: int
    where: list[str]
    wrong: list[str]


def trial(place: Place, command: Command, usual: Undisturbed, rng: random.Random) -> Killed:
    """Kill a command a few times at random moments, let it end, and compare."""
    out = place.trial(command)
    where: list[str] = []
    wrong: list[str] = []
    for _ in range(rng.choice(IN_A_ROW)):
        ended, how = _killed(place, command, usual, rng, out)
        if ended.hung:
            wrong.append(f"hung after {how}: {ended.text[-300:]}")
        elif ended.killed or ended.hit is not None:
            where.append(how)
        if gone := lost(command, out):
            wrong.append(f"strangers' files gone after {how}: {gone}")
    last = place.run(command, out)
    wrong += complaints(last, usual, out)
    wrong += whole(place, command, usual, out)
    return Killed(len(where), where, wrong)


def _killed(
    place: Place, command: Command, usual: Undisturbed, rng: random.Random, out: Path
) -> tuple[Ended, str]:
    if usual.calls and rng.random() < AT_A_CALL:
        call = rng.choice(usual.calls)
        mode = rng.choice((Mode.KILL_ALL, Mode.KILL_ALL, Mode.TORN, Mode.KILL_ONE))
        ended = place.run(command, out, Arm([str(out)], CHANGES, mode, call.number))
        at = (
            f"{mode.name} at {ended.hit.number} {ended.hit.kind} {ended.hit.path}" if ended.hit else mode.name
        )
        return ended, at.replace(str(out), "")
    after = rng.uniform(0.0, 1.1 * usual.seconds)
    return place.run(command, out, kill_after=after), f"after {after:.2f} s"


def trials(place: Place, command: Command, usual: Undisturbed, kills: int, seed: int) -> Iterator[Killed]:
    """Trials until so many kills have hit."""
    rng = random.Random(f"{seed} {command.name}")
    hit = tried = 0
    while hit < kills and tried < 3 * kills:
        found = trial(place, command, usual, rng)
        hit += found.kills
        tried += 1
        yield found
