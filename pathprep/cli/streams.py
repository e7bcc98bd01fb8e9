"""Where the commands write: results to stdout, all about the work to stderr, so that --json can be piped."""

from rich.console import Console

errors = Console(stderr=True, highlight=False)
output = Console(highlight=False)
