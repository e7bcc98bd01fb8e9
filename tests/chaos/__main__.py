"""``python -m chaos``: the suite, and its figures as JSON; see ``make chaos``."""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.machine import add_json, save
from chaos import crowds, faults, kills
from chaos.commands import COMMANDS, Command
from chaos.outcome import Undisturbed, undisturbed
from chaos.place import Place
from chaos.shim import compiler

Row = dict[str, Any]


def main() -> None:
    """Run what was asked for, print what is wrong, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="WORD",
        help="commands of one of these names, or with one of these words in it",
    )
    parser.add_argument("--kills", type=int, default=1000, help="over all commands; 0: none")
    parser.add_argument(
        "--errors", type=int, default=6, help="calls that fail, of each command and error; 0: none"
    )
    parser.add_argument("--rounds", type=int, default=6, help="of runs at once, of each command; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for inputs and trials; default: a temporary one")
    parser.add_argument("--join", nargs="+", type=Path, metavar="JSON", help="runs of parts, as one result")
    add_json(parser)
    options = parser.parse_args()
    if options.join:
        save(options.json, "chaos", joined([json.loads(path.read_text()) for path in options.join]))
        return
    if compiler() is None:
        raise SystemExit("no C compiler (cc or gcc): the shim that kills and fails calls cannot be made")
    names = {each.name for each in COMMANDS}
    words = options.only or [""]
    chosen = [
        each
        for each in COMMANDS
        if any(word == each.name or (word not in names and word in each.name) for word in words)
    ]
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as temporary,
        Place(options.folder or Path(temporary)) as place,
    ):
        commands: dict[str, Row] = {}
        for command in chosen:
            commands[command.name] = measure(place, command, options)
            figures = totals(commands)
            figures |= {"minutes": round((time.monotonic() - begin) / 60, 1), "seed": options.seed}
            save(options.json, "chaos", figures)  # also of a run that is stopped
    print({key: value for key, value in figures.items() if key != "commands"}, flush=True)
    raise SystemExit(1 if figures["wrong"] else 0)


def totals(commands: dict[str, Row]) -> Row:
    """All commands' figures, and their sums."""
    rows = commands.values()
    return {
        "kills": sum(row["kills"]["hit"] for row in rows),
        "errors": sum(row["errors"]["hit"] for row in rows),
        "rounds": sum(row["rounds"]["rounds"] for row in rows),
        "wrong": sum(len(row["wrong"]) for row in rows),
        "commands": commands,
    }


def joined(parts: Sequence[Row]) -> Row:
    """The figures of runs of different commands, or of different trials of the same."""
    commands: dict[str, Row] = {}
    for part in parts:
        for name, row in part["commands"].items():
            commands[name] = added(commands[name], row) if name in commands else row
    order = {command.name: number for number, command in enumerate(COMMANDS)}
    return totals(dict(sorted(commands.items(), key=lambda item: order.get(item[0], len(order)))))


def added(mine: Any, other: Any) -> Any:
    """Numbers and lists are added, except the number of calls."""
    if isinstance(mine, dict):
        keys = [*mine, *(key for key in other if key not in mine)]
        return {
            key: added(mine[key], other[key])
            if key in mine and key in other and key != "calls"
            else mine.get(key, other.get(key))
            for key in keys
        }
    return mine + other


def measure(place: Place, command: Command, options: argparse.Namespace) -> Row:
    """A command's figures."""
    begin = time.monotonic()
    try:
        usual = undisturbed(place, command)
    except RuntimeError as error:
        tell(command, "undisturbed", [str(error)])
        nothing = {"hit": 0, "borne": 0, "rounds": 0, "runs": 0, "told": 0}
        return {
            "name": command.name,
            "kills": nothing,
            "errors": nothing,
            "rounds": nothing,
            "wrong": [str(error)],
        }
    wrong: list[str] = []
    share = -(-options.kills * command.share // sum(each.share for each in COMMANDS))
    row: Row = {
        "calls": len(usual.calls),
        "kills": killed(place, command, usual, share, options.seed, wrong),
        "errors": failed(place, command, usual, options.errors, options.seed, wrong),
        "rounds": crowded(place, command, usual, options.rounds, options.seed, wrong),
        "wrong": wrong,
        "seconds": round(time.monotonic() - begin),
    }
    print(
        {key: value for key, value in row.items() if key != "wrong"}, "WRONG" if wrong else "ok", flush=True
    )
    return row


def killed(
    place: Place, command: Command, usual: Undisturbed, count: int, seed: int, wrong: list[str]
) -> Row:
    """Figures of the kills."""
    trials = list(told(command, kills.trials(place, command, usual, count, seed), wrong))
    return {"trials": len(trials), "hit": sum(each.kills for each in trials)}


def failed(
    place: Place, command: Command, usual: Undisturbed, count: int, seed: int, wrong: list[str]
) -> Row:
    """Figures of the errors."""
    trials = list(told(command, faults.trials(place, command, usual, count, seed), wrong)) if count else []
    hit = [each for each in trials if each.hit]
    return {
        "hit": len(hit),
        "borne": sum(each.borne for each in hit),
        "of": dict(Counter(each.error for each in hit)),
    }


def crowded(
    place: Place, command: Command, usual: Undisturbed, count: int, seed: int, wrong: list[str]
) -> Row:
    """Figures of runs at once."""
    rounds = list(told(command, crowds.rounds(place, command, usual, count, seed), wrong))
    keys = ("runs", "done", "told")
    return {"rounds": len(rounds), **{key: sum(getattr(each, key) for each in rounds) for key in keys}}


def told(command: Command, trials: Iterable[Any], wrong: list[str]) -> Iterable[Any]:
    """The trials; what is wrong with one is printed as soon as it is known."""
    for each in trials:
        if each.wrong:
            what = (
                ", ".join(getattr(each, "where", "")) if isinstance(getattr(each, "where", ""), list) else ""
            )
            what = what or f"{getattr(each, 'error', '')} {getattr(each, 'where', '')}"
            tell(command, what, each.wrong)
            wrong.append(f"{what}: {'; '.join(each.wrong)}")
        yield each


def tell(command: Command, what: str, wrong: Sequence[str]) -> None:
    """A line of what is wrong."""
    print(f"{command.name}: {what}", *wrong, sep="\n    ", flush=True)


main()
