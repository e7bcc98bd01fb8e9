"""A table as files: Markdown, CSV, LaTeX and JSON, and its figures."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.evaluate.papers import drawn

Result = dict[str, Any]
TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    letter: f"\\{letter}" for letter in "&%$#_{}"
}


def write(out: Path, result: Result) -> list[Path]:
    """Write table.md, table.csv, cells.csv, table.tex, table.json and the figures; each whole or not at all.

    Raises:
        UsageError: ``out`` is a file.
        OSError: it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"`out` {out}: is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "table.md": markdown(result).encode(),
        "table.csv": wide(result).encode(),
        "cells.csv": cells(result).encode(),
        "table.tex": latex(result).encode(),
        "table.json": atomic.as_json(result),
        **drawn.figures(result),
    }
    for name, data in files.items():
        atomic.write_alone(out / name, data)
    for name in drawn.NAMES:
        if name not in files:  # of a table that was there before
            (out / name).unlink(missing_ok=True)
    return [out / name for name in files]


def rows(result: Result) -> Iterator[tuple[str, str, dict[str, float], float | None]]:
    """Name, kind (``model``, ``baseline`` or ``published``), figures and mean, in the table's order."""
    for entry in result["models"]:
        for row in entry["rows"]:
            own = row["name"] == "model"
            name = entry["model"]["name"] if own else f"{row['name']} ({entry['model']['name']})"
            yield name, "model" if own else "baseline", row["figures"], row["mean"]
    for row in result["published"]:
        yield f"{row['name']} (published)", "published", row["figures"], row["mean"]


def _headings(result: Result) -> dict[str, str]:
    return {
        column["key"]: column["title"] for column in result["columns"] if column["key"] in result["present"]
    }


def _best(result: Result) -> dict[str, float]:
    """The best figure of each column, over models and published rows; baselines are not in the race."""
    lower = {column["key"] for column in result["columns"] if column["lower"]}
    found: dict[str, float] = {}
    for _, kind, figures, _ in rows(result):
        for key, value in figures.items() if kind != "baseline" else ():
            better = min if key in lower else max
            found[key] = better(found.get(key, value), value)
    return found


def markdown(result: Result) -> str:
    """The table, the differences between models, and what whoever compares should know."""
    heads, best = _headings(result), _best(result)
    lines = [f"# {result['paper']['title']}: {result['paper']['figure']}", ""]
    lines += [
        "| " + " | ".join(["", *map(_cell, heads.values()), "mean"]) + " |",
        "| --- |" + " ---: |" * (len(heads) + 1),
    ]
    for name, kind, figures, mean in rows(result):
        shown = [
            _shown(figures.get(key), best.get(key) if kind != "baseline" else None, "**") for key in heads
        ]
        lines.append("| " + " | ".join([_cell(name), *shown, _shown(mean)]) + " |")
    if result["differences"]:
        lines += ["", "| difference | column | | 95 % interval, paired |", "| --- | --- | ---: | --- |"]
        for each in result["differences"]:
            interval = (
                "-"
                if each["interval"] is None
                else f"{each['interval'][0]:+.3f} to {each['interval'][1]:+.3f}"
            )
            pair = _cell(f"{each['first']} - {each['second']}")
            lines.append(
                f"| {pair} | {_cell(heads[each['column']])} | {each['difference']:+.3f} | {interval} |"
            )
    lines += ["", *(f"- {line}" for line in remarks(result)), ""]
    return "\n".join(lines)


def remarks(result: Result) -> list[str]:
    """Sentences below the table."""
    count = len(result["present"])
    lines = [
        f"Means over the {count} columns that are there, where a row has all of them."
        if count != 1
        else "One column is there."
    ]
    if result["missing"]:
        titles = {column["key"]: column["title"] for column in result["columns"]}
        lines.append("Not there: " + ", ".join(titles[key] for key in result["missing"]) + ".")
    there = [column for column in result["columns"] if column["key"] in result["present"]]
    lines += _own_settings(result, there)
    for entry in result["models"]:
        lines += [
            f"{entry['model']['name']}, {key}: failed: {reason}" for key, reason in entry["failed"].items()
        ]
    lines += [f"{column['title']}: {column['note']}." for column in there if column["note"]]
    lines += result["paper"]["notes"]
    lines.append("Published rows: " + "; ".join(result["paper"]["sources"]) + ".")
    return lines


def _own_settings(result: Result, there: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was set otherwise than the paper has it, columns of the same settings together."""
    found: dict[str, list[str]] = {}
    for column in there:
        own = result["own_settings"].get(column["key"], {})
        if own:
            words = ", ".join(f"{name} {value}" for name, value in sorted(own.items()))
            found.setdefault(words, []).append(column["title"])
    return [f"Not as published, {', '.join(titles)}: set here: {words}." for words, titles in found.items()]


def wide(result: Result) -> str:
    """A row per model, baseline and published model, a column per task."""
    heads = _headings(result)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "kind", *heads, "mean"])
    for name, kind, figures, mean in rows(result):
        writer.writerow(
            [
                _safe(name),
                kind,
                *("" if figures.get(key) is None else repr(figures[key]) for key in heads),
                "" if mean is None else repr(mean),
            ]
        )
    return buffer.getvalue()


def cells(result: Result) -> str:
    """A row per figure, with its interval and the model's lead over it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "row", "column", "figure", "low", "high", "lead", "lead_low", "lead_high"])
    for entry in result["models"]:
        for row in entry["rows"]:
            for key, value in row["figures"].items():
                ends = row["intervals"][key] or ["", ""]
                lead = row["leads"].get(key)
                leads = ["", "", ""] if lead is None else [lead["lead"], *(lead["interval"] or ["", ""])]
                writer.writerow([_safe(entry["model"]["name"]), row["name"], key, value, *ends, *leads])
    return buffer.getvalue()


def latex(result: Result) -> str:
    """A tabular for booktabs, the best figure of each column in bold."""
    heads, best = _headings(result), _best(result)
    lines = [f"% {line}" for line in (result["paper"]["title"], *remarks(result))]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(heads) + 1)}}}", r"\toprule"]
    lines += [" & ".join(["", *map(_tex, heads.values()), "mean"]) + r" \\", r"\midrule"]
    before = None
    for name, kind, figures, mean in rows(result):
        if before is not None and kind == "published" != before:
            lines.append(r"\midrule")
        before = kind
        shown = [
            _shown(figures.get(key), best.get(key) if kind != "baseline" else None, r"\textbf{", "}", "--")
            for key in heads
        ]
        lines.append(" & ".join([_tex(name), *shown, _shown(mean, none="--")]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _shown(
    value: float | None, best: float | None = None, mark: str = "", end: str | None = None, none: str = "-"
) -> str:
    if value is None:
        return none
    text = f"{value:.3f}"
    return (
        f"{mark}{text}{mark if end is None else end}" if best is not None and text == f"{best:.3f}" else text
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


def _safe(text: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
