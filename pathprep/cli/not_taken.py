"""The files below the given folders that a run did not take, as the terminal shows them."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from pathprep.slides.find import Repeat
    from pathprep.slides.walk import NotTaken

NAMED = 5


def print_not_taken(console: Console, left: "NotTaken", repeats: "list[Repeat]") -> None:
    """A line on files of slides that are taken already, and one on files that are none."""
    if repeats:
        named = "; ".join(f"{repeat.path} is {repeat.of}" for repeat in repeats[:NAMED])
        more = f"; and {len(repeats) - NAMED} more (--json lists them)" if len(repeats) > NAMED else ""
        count = "1 duplicate" if len(repeats) == 1 else f"{len(repeats):,} duplicates"
        console.print(f"[yellow]{count}, taken once:[/yellow] {escape(named + more)}", soft_wrap=True)
    if left.files:
        text = escape(str(left))
        console.print(f"[yellow]{text}[/yellow]" if left.notable else text, soft_wrap=True)
