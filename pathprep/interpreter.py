"""Python processes that this one starts: none of them takes code from the folder that a command is run in.

With ``-m`` and ``-c`` Python looks for modules in the current folder first. That may hold somebody else's
slides or images, and a ``numpy.py`` beside them would run with the user's rights. The command itself does not
look there.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_alone = threading.Lock()  # two threads would each restore what the other has set


def environment() -> dict[str, str]:
    """The environment of such a process: its modules are those that this one has."""
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextmanager
def kept_apart() -> Iterator[None]:
    """For processes that Python's own modules start, which take no environment."""
    with _alone:
        given = environment()
        before = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
        os.environ.update({name: given[name] for name in before})
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def without_main() -> Iterator[None]:
    """For processes that need nothing of the program that starts them: Python would have each of them run it
    again, a user's script with all that it imports, if only as far as its `if __name__ == "__main__"`.
    """
    with _alone:
        main = sys.modules["__main__"]
        names = [name for name in ("__spec__", "__file__") if name in vars(main)]
        before: dict[str, object] = {name: vars(main)[name] for name in names}
        main.__spec__ = None
        vars(main).pop("__file__", None)
        try:
            yield
        finally:
            vars(main).update(before)
