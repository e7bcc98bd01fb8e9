"""What training and the work on tiles show: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pathtrain.features.progress import watched

if TYPE_CHECKING:
    from pathtrain.training.logs import Row, Watch


# More of a row, where it is there: key, words and form
_SAID = (
    ("mfu", "MFU", ".0%"),
    *(
        (f"{kind}{name}", f"{kind.replace('_', ' ')}{title}", ".0f")
        for kind in ("", "tile_", "region_")
        for name, title in (("outputs_used", "outputs"), ("feature_rank", "rank"))
    ),
)


@contextmanager
def watcher(console: Console) -> "Iterator[Watch]":
    """A function for pretrain's ``watch``."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)

        def watch(done: int, total: int, row: "Row | None") -> None:
            bar.update(task, completed=done, total=total)
            if row is not None:
                bar.update(task, description=_said(row))

        yield watch


@contextmanager
def tile_bars(console: Console) -> Iterator[None]:
    """Show all work on tiles in here as bars, if this is a terminal."""
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles  {task.fields[rate]:.0f} tiles/s"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    tasks: dict[str, TaskID] = {}

    def watch(title: str, done: int, total: int, rate: float) -> None:
        if title not in tasks:
            bar.start()
            tasks[title] = bar.add_task(title, rate=0.0)
        bar.update(tasks[title], completed=done, total=total, rate=rate)
        if done == total:
            bar.remove_task(tasks.pop(title))

    try:
        with watched(watch):
            yield
    finally:
        bar.stop()


def _lines(console: Console) -> "Watch":
    def watch(done: int, total: int, row: "Row | None") -> None:
        if row is not None:
            left = (total - done) * row["seconds_step"]
            line = f"step {done}/{total}  {_said(row)}  {_clock(left)} left"
            console.print(line, highlight=False, soft_wrap=True)

    return watch


def _said(row: "Row") -> str:
    text = (
        f"loss {row['loss']:.4f}  lr {row['lr']:.2e}  {row['images_s']:.1f} images/s  "
        f"waiting for data {row['data_wait']:.0%}"
    )
    for name, title, form in _SAID:
        if row.get(name) is not None:
            text += f"  {title} {row[name]:{form}}"
    return text


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
