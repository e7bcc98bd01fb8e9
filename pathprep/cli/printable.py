"""A console that shows nothing that its terminal would obey."""

from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.errors import MarkupError
from rich.segment import Segment
from rich.text import Text

from pathprep.storage.printable import printable, printable_lines


class CleanConsole(Console):
    """A console of rich that shows nothing but ``printable`` text, whatever it is given.

    A text that is printed is one line. Cells of tables may have several.
    """

    def print(self, *objects: Any, **given: Any) -> None:
        super().print(*(printable(each) if isinstance(each, str) else each for each in objects), **given)

    def render_str(self, text: str, **given: Any) -> Text:  # of print, and of the cells and titles of tables
        text = printable_lines(text)
        try:
            return super().render_str(text, **given)
        except MarkupError:  # brackets of a name that were taken for markup
            return super().render_str(text, **(given | {"markup": False}))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Any:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)
