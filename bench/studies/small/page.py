"""The tables and sentences of all parts on one page, from the study's results."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from machine import describe, tag

from pathprep.storage import atomic
from small.core.config import PARTS, TREE

TITLES = {
    "choice": "The choice of the recipe",
    "representation": "Representation",
    "stain": "Stain",
    "slide_labels": "Slide labels",
    "resolution": "High resolution",
    "probes": "What live probes foretell",
}


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """All parts that were made."""
    lines = ["# A small encoder, and what it shows", ""]
    for name in (part for part in PARTS if part in results):
        lines += [
            f"## {TITLES[name]}",
            "",
            importlib.import_module(f"small.{name}").markdown(results[name]),
            "",
        ]
    return "\n".join(lines)


def write(results: Mapping[str, Mapping[str, Any]]) -> None:
    """The tables beside the results, which the documentation shows."""
    beside = TREE / "bench" / "results" / f"small-{tag(describe())}.md"
    atomic.write_bytes(beside, markdown(results).encode())
    print(f"written: {beside.relative_to(TREE)}", file=sys.stderr)
