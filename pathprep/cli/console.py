"""What a sharding run shows while it works and when it ends: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pathprep.dataset.failed import FailedShard
from pathprep.launchers.base import Board, Failure
from pathprep.sharding.forecast import Forecast, format_bytes
from pathprep.sharding.summary import RunSummary, Watcher

PLAIN_EVERY_S = 10.0


@contextmanager
def watcher(console: Console, unit: str = "slides") -> Iterator[Watcher]:
    """A function for run.shard's ``watch``; ``unit``: what a task is."""
    if console.is_terminal:
        with _bars(console, unit) as watch:
            yield watch
    else:
        yield _lines(console, unit)


@contextmanager
def _bars(console: Console, unit: str) -> Iterator[Watcher]:
    columns = (
        TextColumn("{task.description:>6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        slides = bars.add_task(unit, total=None, note="")
        tiles = bars.add_task("tiles", total=None, note="")

        def watch(board: Board, summary: RunSummary, tasks: int) -> None:
            planned, done, statuses = board.totals()
            ended = len(summary.markers) + len(summary.failures)
            eta = _eta(summary, ended, tasks)
            failed = f"[red]{len(summary.failures)} failed[/red]  " if summary.failures else ""
            bars.update(slides, completed=ended, total=tasks, note=f"{failed}{eta}")
            bars.update(tiles, completed=done, total=planned, note=_rate(done, statuses, summary))

        yield watch


def _lines(console: Console, unit: str) -> Watcher:
    last = time.monotonic()

    def watch(board: Board, summary: RunSummary, tasks: int) -> None:
        nonlocal last
        if time.monotonic() - last < PLAIN_EVERY_S:
            return
        last = time.monotonic()
        _planned, done, statuses = board.totals()
        ended = len(summary.markers) + len(summary.failures)
        console.print(
            f"{ended}/{tasks} {unit}, {len(summary.failures)} failed, {done} tiles, "
            f"{_rate(done, statuses, summary)}, {_eta(summary, ended, tasks)}",
            soft_wrap=True,
        )

    return watch


def _rate(done: int, statuses: dict[str, int], summary: RunSummary) -> str:
    rate = done / summary.seconds if summary.seconds else 0.0
    stain = " ".join(f"{name} {count}" for name, count in statuses.items() if count and name != "none")
    return f"{rate:,.0f} tiles/s" + (f"  stain: {stain}" if stain else "")


def _eta(summary: RunSummary, ended: int, tasks: int) -> str:
    if not ended or ended == tasks:
        return ""
    left = int(summary.seconds / ended * (tasks - ended))
    return f"about {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def print_summary(console: Console, summary: RunSummary) -> None:
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
    left_out = [name for name, marker in summary.markers.items() if marker.left_out]
    if left_out:
        console.print(
            f"Left out, the slide is coarser than this --mpp: {len(left_out)}, {', '.join(left_out[:5])}"
        )
    empty = [name for name, marker in summary.markers.items() if not marker.tiles and name not in left_out]
    if empty:
        console.print(f"[yellow]No tile is left of {counted(len(empty))}:[/yellow] {', '.join(empty[:5])}")
    if summary.stale:
        console.print(
            f"[yellow]Made with other parameters: {counted(len(summary.stale))} here[/yellow], no part of "
            f"the dataset until made again: {', '.join(summary.stale[:5])}"
        )
    if summary.failures:
        _print_failures(console, "Failed (in failed/, tried again by the next run)", summary.failures)


def print_forecast(console: Console, found: Forecast) -> None:
    """What a run would make, and the slides that it could not use."""
    table = Table(title="A run would make, about", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    done = f", {found.done} already there" if found.done else ""
    table.add_row("Slides", f"{found.slides - len(found.failures)}{done}")
    table.add_row("Tiles", f"{found.tiles:,}")
    table.add_row("Grid cells", _join(found.counts))
    free = "" if found.free is None else f", the disk has {format_bytes(found.free)} free"
    table.add_row("Size", f"{format_bytes(found.size)}{free}")
    console.print(table)
    if found.free is not None and found.size > found.free:
        console.print("[red]More than the disk can hold.[/red]")
    if found.failures:
        _print_failures(console, "Cannot be used", found.failures)


def _print_failures(console: Console, title: str, failures: Mapping[str, FailedShard | Failure]) -> None:
    failed = Table(title=title, title_justify="left")
    for heading in ("Slide", "Stage", "Tries", "Error"):
        failed.add_column(heading, overflow="fold")
    for name, entry in sorted(failures.items()):
        failed.add_row(name, entry.stage, str(entry.attempts), escape(entry.error))
    console.print(failed)


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many of how many are done: a bar on a terminal, plain lines elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task(what, total=None)
            yield lambda done, of: bars.update(bar, completed=done, total=of)
        return
    last = time.monotonic()

    def line(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            console.print(f"{done}/{of} {what}")

    yield line


def counted(number: int, noun: str = "slide") -> str:
    """A number and its noun: 1 slide, 2,000 slides."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _join(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count)
