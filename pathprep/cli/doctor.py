"""`pathprep doctor`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pathprep.cli.dialect import Json, OutJson, give
from pathprep.cli.streams import output

if TYPE_CHECKING:
    from pathprep.checkup.finding import Finding

MARKS = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "missing": "[red]missing[/red]"}


def doctor(
    folder: Annotated[Path, typer.Argument(help="Where datasets are to lie: its disk is measured.")] = Path(),
    as_json: Json = False,
    out_json: OutJson = None,
) -> None:
    """Look whether this machine has what is needed: packages, codecs, GPU, memory, limits, disk.

    Exit code 0: `shard` can work here; 1: something is missing that it needs.
    """
    from pathprep.checkup.doctor import doctor as look

    findings = look(folder)
    give([each.as_dict() for each in findings], as_json, out_json, lambda: show(findings))
    if any(each.status == "missing" for each in findings):
        raise typer.Exit(1)


def show(findings: Sequence["Finding"]) -> None:
    """A table of what was found; packages that are as they should be share a line."""
    from pathprep.checkup.packages import GROUP

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", max_width=24, overflow="fold")
    table.add_column(overflow="fold")
    well = [
        each for each in findings if each.group == GROUP and each.status == "ok" and each.name != "Python"
    ]
    shown = [each for each in findings if each not in well]
    for each in shown:
        fix = f"\n[bold]Fix:[/bold] {escape(each.fix)}" if each.fix else ""
        means = f"\n[dim]{escape(each.means)}[/dim]" if each.status != "ok" else ""
        table.add_row(MARKS[each.status], escape(each.name), f"{escape(each.state)}{means}{fix}")
        if each.name == "Python" and well:
            table.add_row(MARKS["ok"], "Packages", f"{len(well)} are there; --json has their versions")
    output.print(table)
    counts = {status: sum(each.status == status for each in findings) for status in MARKS}
    if counts["missing"]:
        output.print(f"[red]{counts['missing']} missing[/red]; `pathprep shard` needs what is missing.")
    elif counts["warning"]:
        output.print(f"[yellow]{counts['warning']} to look at[/yellow]; `pathprep shard` works.")
    else:
        output.print("All is well.")
