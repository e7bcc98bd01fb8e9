"""Reading a slide for a viewer, in child processes: a native reader that crashes must not end the viewer."""

import signal
from concurrent.futures import CancelledError, TimeoutError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from pebble import ProcessExpired, ProcessPool

from pathprep.errors import MppError, UnreadableSlide
from pathprep.images import jpeg
from pathprep.launchers import server
from pathprep.params.quality import REASONS
from pathprep.params.shard import ReaderName, ShardParams
from pathprep.sharding.survey import Survey, resolution, settle, survey
from pathprep.slides.find import SlideSource
from pathprep.slides.readers.base import Bounds
from pathprep.slides.slide import Slide
from pathprep.tiles import engines
from pathprep.tiles.qc import FIGURES, verdicts
from pathprep.viewing.deep_zoom import Tiles

PROCESSES = 2
TRIES = 3  # of what was asked for when the pool broke
TILE_TIMEOUT_S, SURVEY_TIMEOUT_S = 60.0, 900.0
QUALITY = 92  # with whole colour: what is looked at lies on this machine


@dataclass(frozen=True)
class Seen:
    """What a slide is.

    Attributes:
        width, height: level-0 pixels. levels: downsample of each. bounds: the part that was scanned.
        mpp: micrometres per level-0 pixel; None if it is not known. mpp_source: who says so, or why not.
    """

    width: int
    height: int
    levels: tuple[float, ...]
    bounds: Bounds | None
    vendor: str
    mpp: float | None
    mpp_source: str


class Reading:
    """A slide that is read by child processes; use as a context manager. Methods may be called by any thread.

    Args:
        source: the slide. params: its reader, grid and tissue.

    Raises (its methods):
        SlideError: it cannot be read there, or the process that read it died.
    """

    def __init__(self, source: SlideSource, params: ShardParams) -> None:
        self.source, self.params = source, params
        self._lock, self._ended = Lock(), False
        self._pool = self._new()

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._ended = True
            self._pool.stop()
            self._pool.join()

    def _new(self) -> ProcessPool:
        return ProcessPool(
            PROCESSES,
            initializer=_start,
            initargs=(self.source.path, self.params.reader),
            context=server.context(loaded=False),
        )

    def seen(self) -> Seen:
        """What the slide is."""
        found: Seen = self._ask(_seen, TILE_TIMEOUT_S, "opened", self.source, self.params)
        return found

    def survey(self) -> Survey:
        """Its tissue and its tiles, as `pathprep shard` finds them."""
        found: Survey = self._ask(_survey, SURVEY_TIMEOUT_S, "looked at", self.source, self.params)
        return found

    def tile(self, level: int, column: int, row: int) -> bytes | None:
        """A tile of the Deep Zoom pyramid, JPEG; None if there is none."""
        data: bytes | None = self._ask(_tile, TILE_TIMEOUT_S, "read there", level, column, row)
        return data

    def figures(self, x: int, y: int) -> dict[str, Any]:
        """The quality figures of the tile at x, y, as they are measured when it is cut; ``reason``: why a
        filter would drop it, "" if none does."""
        given = self.source, self.params, x, y
        made: dict[str, Any] = self._ask(_figures, TILE_TIMEOUT_S, "read there", *given)
        return made

    def _ask(self, work: Any, timeout: float, what: str, *given: Any) -> Any:
        for _ in range(TRIES):
            with suppress(CancelledError):  # the pool broke meanwhile, by what another tile did to its reader
                return self._asked(work, timeout, what, *given)
        raise UnreadableSlide(f"{self.source.path}: could not be {what}: its readers ended; try again")

    def _asked(self, work: Any, timeout: float, what: str, *given: Any) -> Any:
        path = self.source.path
        with self._lock:
            if self._ended:
                raise UnreadableSlide(f"{path}: no longer read: the viewer has ended")
            if not self._pool.active:  # it broke: a child was killed before it had anything to do
                self._pool.stop()
                self._pool.join()
                self._pool = self._new()
            future = self._pool.schedule(work, args=given, timeout=timeout)
        try:
            return future.result()
        except ProcessExpired as error:
            raise UnreadableSlide(
                f"{path}: could not be {what}: its reader crashed (exit code {error.exitcode}); copy the "
                "slide again from its source"
            ) from None
        except TimeoutError:
            raise UnreadableSlide(f"{path}: could not be {what} within {timeout:g} s") from None


# Of a child: the slide, opened when the first thing is asked of it
_place: tuple[Path, ReaderName] | None = None
_open: Tiles | None = None


def _start(path: Path, reader: ReaderName) -> None:
    global _place
    _place = path, reader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _tiles() -> Tiles:
    global _open
    if _open is None:
        assert _place is not None
        _open = Tiles(Slide(*_place))
    return _open


def _tile(level: int, column: int, row: int) -> bytes | None:
    pixels = _tiles().read(level, column, row)
    return None if pixels is None else jpeg.encode(np.ascontiguousarray(pixels), QUALITY, "444")


def _seen(source: SlideSource, params: ShardParams) -> Seen:
    slide = _tiles().slide
    value, said = None, ""
    try:
        settled = resolution(slide, params, source.mpp)
        value, said = settled.value, settled.source
    except MppError as error:
        said = str(error)
    levels = tuple(each.downsample for each in slide.levels)
    return Seen(slide.width, slide.height, levels, slide.bounds, slide.vendor, value, said)


def _survey(source: SlideSource, params: ShardParams) -> Survey:
    return survey(_tiles().slide, params, source.mpp, source.mask, source.mask_origin)


def _figures(source: SlideSource, params: ShardParams, x: int, y: int) -> dict[str, Any]:
    slide = _tiles().slide
    _, plan = settle(slide, params, source.mpp)
    side = plan.side // plan.downsample
    pixels = slide.read(plan.level, x // plan.downsample, y // plan.downsample, side, side)
    engine = engines.of("cpu")
    with engine.block():
        _, found = engine.cut(pixels, np.zeros((1, 2), np.int32), side, plan.stored)
    failed = int(verdicts(found, params.qc)[0])
    figures = {name: round(value, 5) for name, value in zip(FIGURES, found[0].tolist(), strict=True)}
    return {"figures": figures, "reason": REASONS[failed] if failed >= 0 else ""}
