"""Names in figures."""

from pathprep.storage.printable import printable

LONGEST = 60  # characters


def drawn(name: str) -> str:
    """A name as a figure may have it: of letters that fonts have, short, and no formula of TeX."""
    shown = printable(name[:LONGEST]) + ("..." if len(name) > LONGEST else "")
    return shown.replace("$", r"\$")
