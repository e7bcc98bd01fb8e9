"""The table of what was measured on cards, written from bench/results into README.md and the site.

    python bench/gpu/table.py            writes both
    python bench/gpu/table.py FOLDER     prints the table of one folder of results, such as a rehearsal's

A column for each card that was measured, and nothing by hand: a row without a result says so.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rows import ROWS, Row

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "bench" / "results"
FOLDERS = "gpu-*"
BEGIN, END = "<!-- written by bench/gpu/table.py -->", "<!-- end -->"
UNKNOWN = "not yet measured"


def found(row: Row, folder: Path) -> str:
    """What stands in a card's cell."""
    parts = json.loads((folder / "run.json").read_text())["parts"]
    ended = "passed"
    if row.part is None:
        result = row.read(parts)
    else:
        path, ended = folder / f"{row.part}.json", parts.get(row.part, {}).get("state", ended)
        try:
            result = row.read(json.loads(path.read_text())) if path.is_file() else None
        except KeyError:  # it failed before there was such a result
            result = None
    if result is None:
        return UNKNOWN if ended == "passed" else f"{UNKNOWN}: {ended}"
    if result.met is None:
        return result.text
    return f"{result.text} ({'met' if result.met else 'not met'})"


def folders(results: Path = RESULTS) -> list[Path]:
    """Of every card that was measured, by its name."""
    return sorted(path.parent for path in results.glob(f"{FOLDERS}/run.json"))


def told(folder: Path) -> tuple[str, str]:
    """A card's name, and what else its results depend on."""
    record = json.loads((folder / "run.json").read_text())
    machine = record["machine"]
    if not record["cards"]:
        return "no card", f"{machine['cpu']}, {machine['date']}"
    card = record["cards"][0]
    facts = [f"driver {card['driver']}", f"{card['clock']} at most", f"memory {card['memory_clock']}"]
    cores = f"{machine['cpu']}, {machine['cores']} cores"
    return card["name"], ", ".join(
        [f"{len(record['cards'])} of them" * (len(record["cards"]) > 1), *facts, cores, machine["date"]]
    ).removeprefix(", ")


def table(rows: list[Row], where: list[Path]) -> str:
    """Markdown."""
    names = [told(folder) for folder in where]
    lines = [["what", "target", *(name for name, _ in names)] if where else ["what", "target", "result"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        lines.append([row.what, row.target, *([found(row, folder) for folder in where] or [UNKNOWN])])
    said = "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)
    return "\n\n".join([said, *(f"{name}: {facts}." for name, facts in names)])


def pages(results: Path = RESULTS) -> Iterator[tuple[Path, str]]:
    """The pages with a table, and each with the one that belongs there."""
    where = folders(results)
    for page, rows in (
        (REPOSITORY / "README.md", [row for row in ROWS if row.main]),
        (REPOSITORY / "docs" / "explanations" / "limits.md", ROWS),
    ):
        before, begin, rest = page.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{page}: has no {BEGIN} ... {END}")
        yield page, f"{before}{BEGIN}\n\n{table(rows, where)}\n\n{END}{after}"


def write() -> None:
    """The tables of README and site."""
    for page, text in pages():
        page.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(table(ROWS, [Path(sys.argv[1])]))
    else:
        write()
