"""Where the commands write: results to stdout, all about the work to stderr, so that --json can be piped."""

import io
import sys

from pathprep.cli.printable import CleanConsole

errors = CleanConsole(stderr=True, highlight=False, emoji=False)
output = CleanConsole(highlight=False, emoji=False)


def take_any_text() -> None:
    """From now on a letter that the terminal's encoding lacks is written as its number, and stops nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
