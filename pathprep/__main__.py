"""The command `pathprep`, also as `python -m pathprep`: what stands between a shell and ``pathprep.cli``."""

import os
import signal
from importlib import import_module


def start(cli: str) -> None:
    """Load the module of a command, and run its ``main``.

    Loading takes seconds on a busy machine. Ctrl-C has nothing to tidy up then, and must not end in the
    traceback of some import.
    """
    loading = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in the background, by nohup
    if loading:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    main = import_module(cli).main
    if loading:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def main() -> None:
    """Entry point of the command."""
    start("pathprep.cli")


if __name__ == "__main__":
    main()
