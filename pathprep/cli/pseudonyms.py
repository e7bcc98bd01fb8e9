"""`pathprep pseudonyms`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import errors, output
from pathprep.errors import UsageError
from pathprep.words import counted

LABELS = "Output"
SHOWN = 5  # names of slides that the key does not know


def pseudonyms(
    key_file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="The key file of --pseudonymise.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Pseudonyms, or slides' own names.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A table of labels (CSV, Parquet) with own names.", rich_help_panel=LABELS),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The same with pseudonyms, as CSV.", rich_help_panel=LABELS)
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Keep a column that would be left out; several.", rich_help_panel=LABELS
        ),
    ] = None,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Tell which slide a pseudonym is, or which pseudonym a slide has; put pseudonyms into a table of labels.

    Exit code 0: all are known; 1: a name is not in the table beside the key file; 2: wrong usage.
    """
    from pathprep.pseudonyms import key, table

    if (labels is None) != (out is None):
        raise UsageError("`labels` and `out` go together: the table, and where the new one goes")
    if labels is None and not names:
        raise UsageError("give names to look up, or `labels` and `out`")
    found = key.read(key_file)
    if labels is not None and out is not None:
        if names or not labels.exists():
            raise UsageError(f"{labels}: no such file" if not names else "`labels` takes no names to look up")
        _rewrite(found, labels, out, keep or [], as_json, out_json)
        return
    rows = table.rows(found)
    facts: list[dict[str, Any]] = []
    for name in names or ():
        matching = table.look_up(rows, name)
        facts += [row._asdict() for row in matching]
        if not matching:
            errors.print(
                f"error: {name}: not in {found.table}; give a file's name or a pseudonym, of this key",
                style="red",
                markup=False,
                soft_wrap=True,
            )
    unknown = sum(not table.look_up(rows, name) for name in names or ())

    def show() -> None:
        for row in facts:
            mask = f", mask {row['mask']}" if row["mask"] else ""
            line = f"{row['pseudonym']}  {row['name']}  {row['path']}{mask}"
            output.print(line.rstrip(), markup=False, soft_wrap=True, highlight=False)

    give(facts, as_json, out_json, show)
    raise typer.Exit(1 if unknown else 0)


def _rewrite(
    key: Any, labels: Path, out: Path, keep: list[str], as_json: bool, out_json: Path | None
) -> None:
    from pathprep.pseudonyms.labels import rewrite

    done = rewrite(key, labels, out, keep=keep)

    def show() -> None:
        changed = ", ".join([done.slide, *done.patients])
        output.print(
            f"{out}: {counted(done.rows, 'row')}; pseudonyms in {changed}; kept: "
            f"{', '.join(done.kept) or 'nothing'}",
            markup=False,
            soft_wrap=True,
        )
        for column, why in done.left.items():
            line = f"left out  {column} ({why}); --keep {shlex.quote(column)} keeps it"
            output.print(line, markup=False, soft_wrap=True, highlight=False)
        if done.unknown:
            some = ", ".join(done.unknown[:SHOWN]) + (", ..." if len(done.unknown) > SHOWN else "")
            number = counted(len(done.unknown), "slide")
            line = f"not sharded with this key so far: {number} ({some}); are they spelt as their files?"
            output.print(line, markup=False, soft_wrap=True, highlight=False)

    give(vars(done), as_json, out_json, show)
