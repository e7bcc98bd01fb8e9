"""What commands show while they work and when they end: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pathprep.cli.messages import said
from pathprep.cli.not_taken import print_not_taken
from pathprep.cli.unlike import print_unlike
from pathprep.words import command, counted, size_in_words

if TYPE_CHECKING:
    from pathprep.dataset.failed import FailedShard
    from pathprep.launchers.base import Board, Failure
    from pathprep.mixed.make import MixSummary
    from pathprep.sharding.forecast import Forecast
    from pathprep.sharding.summary import RunSummary, Watcher

PLAIN_EVERY_S = 10.0
MASK_NOTES = 5  # that are shown


class Row(NamedTuple):
    """How far something is: ``done`` of ``total``, None if that is not known, and a note."""

    done: int
    total: int | None = None
    note: str = ""


@contextmanager
def progress(console: Console, *units: str) -> Iterator[Callable[..., None]]:
    """Show how far work is, until the block ends.

    Args:
        units: what is counted, such as slides and tiles; the time that is left is told from the first.

    Yields:
        A function that takes a Row for each unit; it may be called as often as one likes.
    """
    start = time.monotonic()

    def rows(given: tuple[Row, ...]) -> list[Row]:
        first, *others = given
        left = _time_left(time.monotonic() - start, first)
        return [first._replace(note=", ".join(filter(None, (first.note, left)))), *others]

    if not console.is_terminal:
        yield _lines(console, units, rows)
        return
    width = max(map(len, units))
    text = TextColumn("{task.fields[note]}")
    columns = (
        TextColumn(f"{{task.description:>{width}}}"),
        BarColumn(),
        MofNCompleteColumn(),
        text,
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = [bars.add_task(unit, total=None, note="") for unit in units]

        def show(*given: Row) -> None:
            for task, row in zip(tasks, rows(given), strict=True):
                bars.update(task, completed=row.done, total=row.total, note=escape(row.note))

        yield show


def _lines(
    console: Console, units: tuple[str, ...], rows: Callable[[tuple[Row, ...]], list[Row]]
) -> Callable[..., None]:
    last = time.monotonic()

    def show(*given: Row) -> None:
        nonlocal last
        if time.monotonic() - last < PLAIN_EVERY_S:
            return
        last = time.monotonic()
        parts = []
        for unit, row in zip(units, rows(given), strict=True):
            of = "" if row.total is None else f"/{row.total:,}"
            parts.append(f"{row.done:,}{of} {unit}" + (f", {row.note}" if row.note else ""))
        console.print("; ".join(parts), markup=False, soft_wrap=True)

    return show


def _time_left(seconds: float, row: Row) -> str:
    if not row.done or row.total is None or row.done >= row.total:
        return ""
    left = int(seconds / row.done * (row.total - row.done))
    return f"about {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


@contextmanager
def watcher(console: Console, unit: str = "slides") -> Iterator["Watcher"]:
    """A function for a run's ``watch``; ``unit``: what a task is."""
    with progress(console, unit, "tiles") as show:

        def watch(board: "Board", summary: "RunSummary", tasks: int) -> None:
            planned, done, statuses = board.totals()
            failed = len(summary.failures)
            ended = len(summary.markers) + failed
            rate = f"{done / summary.seconds if summary.seconds else 0:,.0f} tiles/s"
            stain = " ".join(
                f"{name} {count:,}" for name, count in statuses.items() if count and name != "none"
            )
            tiles = Row(done, planned, rate + (f", stain: {stain}" if stain else ""))
            show(Row(ended, tasks, f"{failed} failed" if failed else ""), tiles)

        yield watch


@contextmanager
def mix_watcher(console: Console) -> Iterator[Callable[["MixSummary"], None]]:
    """A function for a mix's ``watch``."""
    with progress(console, "written", "read") as show:

        def watch(summary: "MixSummary") -> None:
            note = f"pass {summary.passes}"
            show(Row(summary.written, summary.todo), Row(summary.read, summary.todo, note))

        yield watch


def print_summary(console: Console, summary: "RunSummary") -> None:
    """The closing table, and one of the slides that failed."""
    facts = summary.as_dict()
    table = Table(title=escape(f"Dataset {facts['dataset']}"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    done = f"{facts['done']} made"
    if facts["already_done"]:
        done += f", {facts['already_done']} already there"
    if summary.failures:
        done += f", [red]{len(summary.failures)} failed[/red]"
    if summary.resolutions > 1:
        done += f" ({counted(summary.files)} at {summary.resolutions} resolutions)"
    table.add_row("Slides", done)
    table.add_row("Tiles", f"{facts['tiles']:,} ({facts['tiles_made']:,} made now)")
    table.add_row("Grid cells", _join(facts["counts"]))
    table.add_row("Stain", _join(facts["stain"]) or "-")
    table.add_row("Time", f"{facts['seconds']:.1f} s, {facts['tiles_per_second']:,.0f} tiles/s")
    table.add_row("Build id", summary.build_id)
    console.print(table)
    print_not_taken(console, summary.not_taken, summary.repeats)
    left_out = [name for name, marker in summary.markers.items() if marker.left_out]
    if left_out:
        console.print(
            f"{counted(len(left_out))} left out, coarser than --mpp: {escape(', '.join(left_out[:5]))}",
            soft_wrap=True,
        )
    empty = [name for name, marker in summary.markers.items() if not marker.tiles and name not in left_out]
    if empty:
        console.print(
            f"[yellow]No tile is left of {counted(len(empty))}:[/yellow] {escape(', '.join(empty[:5]))}"
        )
    print_unlike(console, summary.unlike())
    print_mask_notes(console, summary.mask_notes())
    if summary.stale:
        console.print(
            f"[yellow]Made with other parameters: {counted(len(summary.stale))} here[/yellow], no part of "
            f"the dataset until made again: {escape(', '.join(summary.stale[:5]))}"
        )
    print_damaged(console, summary)
    if summary.touched:
        console.print(
            f"[yellow]Written to since they were sharded: {counted(len(summary.touched))}[/yellow], with "
            f"equal size and ends, taken as unchanged (if not: --rebuild): {', '.join(summary.touched[:5])}",
            soft_wrap=True,
        )
    if summary.failures:
        print_failures(console, "Failed (in failed/, tried again by the next run)", summary.failures)


def print_mask_notes(console: Console, said_of: Mapping[str, Sequence[str]]) -> None:
    """What the user should know of masks, by slide."""
    notes = [f"{name}: {note}" for name, each in said_of.items() for note in each]
    if notes:
        more = f" ({len(notes)}, --json has all)" if len(notes) > MASK_NOTES else ""
        console.print(f"[yellow]About the masks{more}:[/yellow]")
        for note in notes[:MASK_NOTES]:
            console.print(f"  {escape(said(note))}", soft_wrap=True)


def print_damaged(console: Console, summary: "RunSummary") -> None:
    """Markers that cannot be believed, and the command that says what to do of each."""
    if summary.damaged_markers:
        console.print(
            f"[yellow]Damaged: {counted(len(summary.damaged_markers), 'file')} in slides/[/yellow], "
            "of which nobody "
            f"knows what they stand for: {escape(', '.join(summary.damaged_markers[:5]))}; "
            f"{escape(command('pathprep verify', summary.url or summary.root))} says what to do",
            soft_wrap=True,
        )


def print_forecast(console: Console, found: "Forecast") -> None:
    """What a run would make, and the slides that it could not use."""
    table = Table(title="A run would make, about", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    done = f", {found.done} already there" if found.done else ""
    table.add_row("Slides", f"{found.slides - len(found.failures)}{done}")
    table.add_row("Tiles", f"{found.tiles:,}")
    table.add_row("Grid cells", _join(found.counts))
    free = "" if found.free is None else f", the disk has {size_in_words(found.free)} free"
    table.add_row("Size", f"{size_in_words(found.size)}{free}")
    console.print(table)
    print_not_taken(console, found.not_taken, found.repeats)
    print_unlike(console, found.unlike)
    if found.free is not None and found.size > found.free:
        console.print("[red]More than the disk can hold.[/red]")
    if found.failures:
        print_failures(console, "Cannot be used", found.failures)


def print_failures(console: Console, title: str, failures: "Mapping[str, FailedShard | Failure]") -> None:
    """A table of the slides that failed."""
    failed = Table(title=title, title_justify="left")
    for heading in ("Slide", "Stage", "Tries", "Error"):
        failed.add_column(heading, overflow="fold")
    for name, entry in sorted(failures.items()):
        failed.add_row(escape(name), escape(entry.stage), str(entry.attempts), escape(said(entry.error)))
    console.print(failed)


def print_mix(console: Console, summary: "MixSummary") -> None:
    """The closing table of a mix."""
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
        table.add_row(
            "Time",
            f"{summary.seconds:.1f} s, {rate}, {counted(summary.passes, 'pass', 'passes')}",
        )
    table.add_row("Mix id", summary.mix_id)
    console.print(table)


def _join(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count)
