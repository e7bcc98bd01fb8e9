"""Pixels of tiles as the slide file has them, read in a child process that may die without harm.

Imports no more than a child needs to start quickly.
"""

from collections.abc import Iterator
from concurrent.futures import TimeoutError
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from pebble import ProcessExpired, ProcessPool
from PIL import Image

from pathprep.dataset.marker import SlideMarker, SlideRecord
from pathprep.errors import SlideError, why
from pathprep.launchers import server
from pathprep.params.shard import ReaderName
from pathprep.pseudonyms.slides import Pseudonyms
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import Slide

# Of slides that have pseudonyms, whose own names must not be in a page
NO_KEY = "its name is a pseudonym; with the key file (`--pseudonymise`), what its tiles were is shown too"
NO_ROW = "the table of pseudonyms does not say where the slide is"
UNREADABLE = "the slide file is no longer where it was, was changed, or cannot be read"
# A few tiles take well under a second; a share of a network that hangs must not hang the page
TIMEOUT_S = 60.0


class Wanted(NamedTuple):
    """Tiles of one slide: level-0 boxes x, y, side."""

    marker: SlideMarker
    boxes: list[tuple[int, int, int]]


class Before(NamedTuple):
    """The pictures, in the order of the boxes; or none and why."""

    slide: str
    pictures: list[Pixels]
    problem: str


def read(wanted: list[Wanted], side: int, secret: Pseudonyms | None = None) -> Iterator[Before]:
    """Read every slide's tiles, reduced to at most ``side`` pixels, one slide at a time.

    Args:
        secret: says where slides with pseudonyms are.
    """
    present = []
    for item in wanted:
        marker = item.marker if item.marker.key_id is None else _found(item.marker, secret)
        problem = (NO_KEY if secret is None else NO_ROW) if marker is None else _changed(marker.source)
        if marker is None or problem:
            yield Before(item.marker.slide, [], _said(item.marker, problem))
        else:
            present.append(item._replace(marker=marker))
    if not present:
        return
    with ProcessPool(1, context=server.context(loaded=False)) as pool:
        waiting = [pool.schedule(_read_slide, args=[item, side], timeout=TIMEOUT_S) for item in present]
        for item, future in zip(present, waiting, strict=True):
            error = future.exception()
            if error is None:
                yield Before(item.marker.slide, future.result(), "")
            else:
                problem = _problem(error, Path(item.marker.source.path))
                yield Before(item.marker.slide, [], _said(item.marker, problem))


def _found(marker: SlideMarker, secret: Pseudonyms | None) -> SlideMarker | None:
    path = None if secret is None else secret.path(marker.source.path)
    return None if path is None else replace(marker, source=replace(marker.source, path=str(path)))


def _said(marker: SlideMarker, problem: str) -> str:
    """A problem without the name of a slide that has a pseudonym."""
    return problem if marker.key_id is None or problem in (NO_KEY, NO_ROW) else UNREADABLE


def _problem(error: BaseException, path: Path) -> str:
    """Why, in words for a page that is passed on: with the file's name, not its folder."""
    if isinstance(error, ProcessExpired):
        return f"the reader crashed on {path.name}"
    if isinstance(error, TimeoutError):
        return f"reading {path.name} took longer than {TIMEOUT_S:g} s"
    text = str(error) if isinstance(error, SlideError) else f"{path}: {type(error).__name__}: {why(error)}"
    return text.replace(f"{path.parent}/", "")


def _changed(source: SlideRecord) -> str:
    path = Path(source.path)
    try:
        size = path.stat().st_size
    except OSError:
        return f"the slide file {path.name} is no longer where it was (slides/ says where)"
    return "" if size == source.size else f"the slide file {path.name} has another size than when it was cut"


def _read_slide(item: Wanted, side: int) -> list[Pixels]:
    reader = cast("ReaderName", item.marker.reader)
    with Slide(Path(item.marker.source.path), reader) as slide:
        return [reduced(slide.read(0, x, y, box, box), side) for x, y, box in item.boxes]


def reduced(pixels: Pixels, side: int) -> Pixels:
    """At most ``side`` pixels along the longer edge, by area averaging."""
    picture = Image.fromarray(pixels)
    factor = max(picture.size) / side
    if factor <= 1:
        return pixels
    size = (max(1, round(picture.width / factor)), max(1, round(picture.height / factor)))
    return np.asarray(picture.resize(size, Image.Resampling.BOX))
