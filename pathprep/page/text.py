"""What a value is on a page: text that nothing obeys, and no more of it than anybody reads."""

from typing import Any

from jinja2 import Undefined
from markupsafe import Markup, escape

from pathprep.storage.printable import printable_lines

LONGEST = 2_000  # characters of a name, a label or a sentence
LONGEST_LISTING = 200_000  # of a file that is shown whole


def shown(value: Any) -> Any:
    """A value as a template writes it: HTML of this project and numbers as they are, all else as text.

    Letters that turn the reading direction around, that are not seen or that are none are written as their
    numbers, passwords in URLs are hidden, and what is very long is cut off, which is said.
    """
    if hasattr(value, "__html__") or isinstance(value, int | float | Undefined) or value is None:
        return value
    return _cut(str(value), LONGEST)


def listing(text: str) -> Markup:
    """Many lines, such as a recipe, for a ``pre``."""
    return escape(_cut(text, LONGEST_LISTING))


def _cut(text: str, most: int) -> str:
    more = f"... ({len(text) - most:,} more characters)" if len(text) > most else ""
    return printable_lines(text[:most]) + more
