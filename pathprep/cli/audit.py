"""`pathprep audit`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.options import place
from pathprep.cli.streams import output

if TYPE_CHECKING:
    from pathprep.auditing.audit import Audit


def audit(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", parser=place, help="Datasets, mixed shards, runs, models, features."),
    ],
    sample: Annotated[
        int, typer.Option(min=0, help="Pictures of each tar whose headers are looked at; 0 for all.")
    ] = 1000,
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """List whatever could tell of a person or a machine: names, dates, paths, hosts, users, UIDs, EXIF.

    Exit code 0: nothing was found; 1: something was, with a way to avoid or remove it; 2: wrong usage.
    """
    from pathprep.auditing.audit import audit as look

    seen = [look(path, sample=sample) for path in paths]

    def show() -> None:
        for each in seen:
            _print(each)

    give([each.as_dict() for each in seen], as_json, out_json, show)
    raise typer.Exit(1 if any(each.found for each in seen) else 0)


def _print(seen: "Audit") -> None:
    for found in seen.found:
        files = f" and {found.files - 1:,} more like it" if found.files > 1 else ""
        where = f", {found.where}" if found.where else ""
        output.print(
            f"[red]{escape(found.file)}[/red]{files}{escape(where)}: {found.what}, such as "
            f"{escape(repr(found.example))}; {escape(found.fix)}",
            soft_wrap=True,
            highlight=False,
        )
    count = "file" if seen.files == 1 else "files"
    pictures = ""
    if seen.pictures:
        which = "all" if seen.looked == seen.pictures else f"{seen.looked:,}"
        pictures = f", headers of {which} of {seen.pictures:,} pictures"
    told = (
        "nothing that could tell of a person or a machine" if not seen.found else f"{len(seen.found)} found"
    )
    output.print(
        f"{escape(str(seen.path))} ({seen.kind}), {seen.files:,} {count}{pictures}: {told}", soft_wrap=True
    )
