"""The card is for tests marked gpu: all others, and what they start, run as on a machine without one."""

import re
from collections.abc import Mapping, Sequence

HIDE = "CUDA_VISIBLE_DEVICES"
WORKER = "PYTEST_XDIST_WORKER"  # such a process has what the first one left


def asked_for(arguments: Sequence[str]) -> bool:
    """Whether a command line of pytest picks tests marked gpu: ``-m gpu`` or ``-m "gpu and not slow"``."""
    marks = ""
    for one, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if one.startswith("-m"):
            marks = one[2:] or following  # the last one counts, as for pytest
    return re.search(r"(?<!\bnot )\bgpu\b", marks) is not None


def visible(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """What hides every card from this process and its children, unless tests marked gpu are asked for.

    To be set before a library that looks for cards is loaded: CUDA looks once.
    """
    return {} if WORKER in environment or asked_for(arguments) else {HIDE: ""}
