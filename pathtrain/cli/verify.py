"""`pathtrain verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import output
from pathprep.words import counted


def verify(
    paths: Annotated[list[Path], typer.Argument(help="Runs, exported models, folders or files of features.")],
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Check runs, exported models and features: every file against its seal or hash.

    Exit code 0: all is well; 1: something is damaged, and each file is named. Files that are not pathtrain's
    are named too, and are no damage.
    """
    from pathtrain.features.verify import kind_of
    from pathtrain.features.verify import verify as verify_path

    kinds = {str(path): kind_of(path) for path in paths}  # before hours of reading
    bad, notes, checked = list[dict[str, Any]](), list[dict[str, Any]](), 0
    for path in paths:
        for found in verify_path(path):
            checked += 1
            if found.problems:
                bad.append(found.as_dict())
            elif found.notes:
                notes.append(found.as_dict())
            if not as_json:
                for line in found.problems:
                    output.print(f"[red]damaged[/red]  {escape(line)}", soft_wrap=True)
                for line in found.notes:
                    output.print(f"[yellow]note[/yellow]  {escape(f'{found.file}: {line}')}", soft_wrap=True)

    def show() -> None:
        if not bad:
            named = ", ".join(f"{path} ({kind})" for path, kind in kinds.items())
            output.print(f"{escape(named)}: {counted(checked, 'file')}, all as written", soft_wrap=True)

    give({"kinds": kinds, "files": checked, "bad": bad, "notes": notes}, as_json, out_json, show)
    raise typer.Exit(1 if bad else 0)
