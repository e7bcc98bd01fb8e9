"""Numbers and commands as people say them, on terminals, on pages and in messages."""

import shlex


def counted(number: int, noun: str = "slide", several: str = "") -> str:
    """A number and its noun: 1 slide, 2,000 slides.

    Args:
        several: of nouns that take no s: ``counted(2, "box", "boxes")``.
    """
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def size_in_words(value: float) -> str:
    """Bytes in the unit that gives few digits: 812 bytes, 4.1 MB, 1,200.0 TB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def command(*words: object) -> str:
    """A command to be typed, as messages have it: what a shell would take apart is quoted.

    `pathprep verify 'my slides'` of ``command("pathprep verify", folder)``: the first word may be several.
    """
    first, *rest = map(str, words)
    return f"`{' '.join([first, *map(shlex.quote, rest)])}`"
