"""Pixels of tiles as the slide file has them, read in a child process that may die without harm.

Imports no more than a child needs to start quickly.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import TimeoutError
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from pebble import ProcessExpired, ProcessPool
from PIL import Image

from pathprep.dataset.marker import SlideMarker, SlideRecord
from pathprep.errors import SlideError
from pathprep.params.shard import ReaderName
from pathprep.slides.readers.base import Pixels
from pathprep.slides.slide import Slide

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


def read(wanted: list[Wanted], side: int) -> Iterator[Before]:
    """Read every slide's tiles, reduced to at most ``side`` pixels, one slide at a time."""
    present = []
    for item in wanted:
        problem = _changed(item.marker.source)
        if problem:
            yield Before(item.marker.slide, [], problem)
        else:
            present.append(item)
    if not present:
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPool(1, context=context) as pool:
        waiting = [pool.schedule(_read_slide, args=[item, side], timeout=TIMEOUT_S) for item in present]
        for item, future in zip(present, waiting, strict=True):
            error = future.exception()
            if error is None:
                yield Before(item.marker.slide, future.result(), "")
            else:
                yield Before(item.marker.slide, [], _problem(error, Path(item.marker.source.path)))


def _problem(error: BaseException, path: Path) -> str:
    """Why, in words for a page that is passed on: with the file's name, not its folder."""
    if isinstance(error, ProcessExpired):
        return f"the reader crashed on {path.name}"
    if isinstance(error, TimeoutError):
        return f"reading {path.name} took longer than {TIMEOUT_S:g} s"
    text = str(error) if isinstance(error, SlideError) else f"{path}: {type(error).__name__}: {error}"
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
