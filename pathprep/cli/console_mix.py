"""What a mix shows while it works and when it ends: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pathprep.cli.console import PLAIN_EVERY_S
from pathprep.mixed.make import MixSummary, Watcher


@contextmanager
def watcher(console: Console) -> Iterator[Watcher]:
    """A function for mix.mix's ``watch``."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        read, written = (bars.add_task(name, total=None) for name in ("read", "written"))

        def watch(summary: MixSummary) -> None:
            bars.update(read, completed=summary.read, total=summary.todo)
            bars.update(written, completed=summary.written, total=summary.todo)

        yield watch


def _lines(console: Console) -> Watcher:
    last = time.monotonic()

    def watch(summary: MixSummary) -> None:
        nonlocal last
        if time.monotonic() - last < PLAIN_EVERY_S:
            return
        last = time.monotonic()
        console.print(
            f"pass {summary.passes}: {summary.read:,} tiles read, "
            f"{summary.written:,} of {summary.todo:,} written",
            soft_wrap=True,
        )

    return watch


def print_summary(console: Console, summary: MixSummary) -> None:
    """The closing table."""
    table = Table(title=escape(f"Mixed shards {summary.root}"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    reused = f" ({summary.reused:,} already there)" if summary.reused else ""
    table.add_row("Shards", f"{summary.shards:,}{reused}")
    table.add_row("Tiles", f"{summary.tiles:,} ({summary.written:,} written now)")
    table.add_row("Members", ", ".join(f".{name}" for name in summary.components))
    if summary.seconds and summary.written:
        tiles, megabytes = (count / summary.seconds for count in (summary.written, summary.bytes / 1e6))
        rate = f"{tiles:,.0f} tiles/s, {megabytes:,.0f} MB/s"
        table.add_row("Time", f"{summary.seconds:.1f} s, {rate}, {summary.passes} passes")
    table.add_row("Mix id", summary.mix_id)
    console.print(table)
