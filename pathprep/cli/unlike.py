"""The slides that look unlike the others, as the terminal names them."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape

from pathprep.params.notes import in_words
from pathprep.words import counted

NAMED = 5


def print_unlike(console: Console, unlike: Mapping[str, Sequence[str]]) -> None:
    """A warning for each thing that slides are unlike the others in."""
    for code, names in unlike.items():
        named = ", ".join(names[:NAMED])
        more = f" and {len(names) - NAMED:,} more (--json lists them)" if len(names) > NAMED else ""
        count = counted(len(names))
        text = f"[yellow]warning: {count}: {escape(in_words(code))}:[/yellow] {escape(named + more)}"
        console.print(text, soft_wrap=True)
