"""Pictures in a terminal: each character is an upper half block, two pixels above each other."""

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from pathprep.slides.readers.base import Pixels

UPPER_HALF = "\u2580"


def can_show(console: Console) -> bool:
    """Whether the console is a terminal with enough colours for a picture, and has the character."""
    return (
        console.is_terminal
        and console.color_system in ("256", "truecolor")
        and not console.legacy_windows
        and console.encoding.lower().startswith("utf")
    )


def half_blocks(pixels: Pixels) -> Text:
    """A picture as coloured characters.

    Args:
        pixels: (height, width, 3) uint8; a last odd row stands above the terminal's own background.
    """
    text = Text(no_wrap=True, end="")
    for top in range(0, len(pixels), 2):
        if top:
            text.append("\n")
        for x in range(pixels.shape[1]):
            upper = Color.from_rgb(*pixels[top, x].tolist())
            lower = Color.from_rgb(*pixels[top + 1, x].tolist()) if top + 1 < len(pixels) else None
            text.append(UPPER_HALF, Style(color=upper, bgcolor=lower))
    return text
