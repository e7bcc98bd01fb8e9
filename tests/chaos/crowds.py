"""The same command several times at once on one folder: nothing is lost, and who must wait is told so."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.commands import Command
from chaos.outcome import Undisturbed, complaints, raw, whole
from chaos.place import Place

# What a run may end with that another keeps out
BUSY = re.compile(
    r"is (writing|training|working) (there|in it|here)|another (run|process)|wait for it", re.IGNORECASE
)


@dataclass(frozen=True)
class Crowded:
    """A round: so many runs, how many did it, how many were told to wait, what was found wrong."""

    runs: int
    done: int
    told: int
    wrong: list[str]


def round_of(place: Place, command: Command, usual: Undisturbed, count: int) -> Crowded:
    """Start a command several times at once; then once more, alone."""
    out = place.trial(command)
    ends = place.runs(command, out, count)
    wrong = []
    done = told = 0
    for each in ends:
        said = each.text.replace(str(out), "{out}")[-600:]
        if each.code == usual.code:
            done += 1
        elif not each.hung and each.code > 0 and BUSY.search(each.text):
            told += 1
        else:
            wrong.append(f"{'hung' if each.hung else f'ends with {each.code}'}: {said}")
        wrong += raw(each, out)
    if not done:
        wrong.append("no run did it")
    last = place.run(command, out)
    wrong += [f"then: {each}" for each in complaints(last, usual, out)]
    wrong += whole(place, command, usual, out)
    return Crowded(count, done, told, wrong)


def rounds(place: Place, command: Command, usual: Undisturbed, count: int, seed: int) -> Iterator[Crowded]:
    """So many rounds of two to four runs."""
    rng = random.Random(f"{seed} {command.name}")
    for _ in range(count):
        yield round_of(place, command, usual, rng.choice((2, 3, 4)))
