"""What a reader does: slides that it holds open, and a tile for a position of the run.

It knows no torch, so that a process of its own starts at once.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UnreadableSlide
from pathprep.kernels import resize_cpu, tiling_cpu
from pathprep.slides.slide import Slide
from pathprep.surveys import record
from pathprep.surveys.record import Surveyed
from pathprep.surveys.tissue_bits import TissueBits
from pathtrain.data.online import window

OPEN = 64  # slides of a reader: opening one takes as long as reading some tiles, and a mask half a megabyte

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rules:
    """What decides a tile, besides slide, MPP and position; see recipes.online.OnlineConfig."""

    seed: int
    tile: int
    min_tissue: float
    hsv: float
    tries: int


@dataclass(frozen=True)
class Drawn:
    """Where a tile came from.

    Attributes:
        slide: its name. x, y, side: level-0 pixels. level: that was read. by: how much it was reduced while
            it was decoded. mpp: micrometres per pixel.
        tissue, hsv: shares of the tile, 0 to 1; ``hsv`` is 1 where it was not asked for.
        tries: places that were read for it.
    """

    slide: str
    x: int
    y: int
    side: int
    level: int
    by: int
    mpp: float
    tissue: float
    hsv: float
    tries: int


class _Open:
    """A slide that is held open."""

    def __init__(self, surveyed: Surveyed) -> None:
        self.surveyed = surveyed
        self.slide = Slide(surveyed.path, surveyed.reader)  # type: ignore[arg-type]  # checked: it opened so
        if tuple(self.slide.levels) != surveyed.levels:
            self.close()
            raise UnreadableSlide(f"{surveyed.path}: its levels are not those that were surveyed")
        self.scales: dict[float, window.Scale] = {}

    @cached_property
    def tissue(self) -> TissueBits:
        return self.surveyed.tissue.unpacked()

    def scale(self, mpp: float, tile: int) -> window.Scale:
        if mpp not in self.scales:
            self.scales[mpp] = window.scale_of(self.surveyed, mpp, tile, self.slide.reduction)
        return self.scales[mpp]

    def close(self) -> None:
        self.slide.__exit__(None, None, None)


class SlideReader:
    """Tiles of a survey's slides; one thread's.

    Args:
        root: of the survey.
        contents: of each slide, as the run began with (surveys.folder.Survey).
    """

    def __init__(self, root: Path, contents: dict[str, str], rules: Rules) -> None:
        self.root, self.contents, self.rules = root, contents, rules
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def draw(self, name: str, mpp: float, position: int, number: int, out: Pixels) -> Drawn:
        """The tile of a slide at a position of the run, in the draw of this number.

        Args:
            out: (tile, tile, 3), written.

        Raises:
            SlideError: the slide cannot be read, or is not as it was surveyed.
            OSError, ValueError: the file, or the survey's, is damaged.
        """
        rules, opened = self.rules, self._opened(name)
        scale = opened.scale(mpp, rules.tile)
        best: tuple[float, window.Box] | None = None
        for tried in range(rules.tries):
            key = (rules.seed, position, number, tried)
            box = window.draw(opened.surveyed, opened.tissue, scale, rules.min_tissue, *key)
            share = self._read(opened, scale, box, out)
            if best is None or share > best[0]:
                best, at = (share, box), tried
            if share >= rules.hsv:
                break
        assert best is not None  # tries is at least 1
        share, box = best
        if at != tried:
            self._read(opened, scale, box, out)
        x, y, side = (round(value * scale.downsample) for value in (box.x, box.y, scale.side))
        return Drawn(name, x, y, side, scale.level, scale.by, scale.mpp, box.tissue, share, tried + 1)

    def at(self, drawn: Drawn) -> Pixels:
        """The tile (tile, tile, 3) of a place that was drawn; errors as ``draw``."""
        opened = self._opened(drawn.slide)
        scale = window.of_drawn(opened.surveyed, drawn.level, drawn.by, drawn.side, drawn.mpp)
        box = window.Box(round(drawn.x / scale.downsample), round(drawn.y / scale.downsample), drawn.tissue)
        out = np.empty((self.rules.tile, self.rules.tile, 3), np.uint8)
        self._read(opened, scale, box, out)
        return out

    def close(self) -> None:
        """Close the slides."""
        while self._open:
            self._open.popitem()[1].close()

    def _opened(self, name: str) -> _Open:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        surveyed = record.read(self.root / "slides" / f"{name}.json")
        if surveyed is None or surveyed.content() != self.contents[name]:
            raise UnreadableSlide(f"{self.root}/slides/{name}.json: is not what it was when the run began")
        if changed := surveyed.changed():
            raise UnreadableSlide(f"{surveyed.path}: {changed}")
        if len(self._open) >= OPEN:
            self._open.popitem(last=False)[1].close()
        found = self._open[name] = _Open(surveyed)
        return found

    def _read(self, opened: _Open, scale: window.Scale, box: window.Box, out: Pixels) -> float:
        """Read a box as a tile; returns the share of its pixels in the HSV box, 1 if it is not asked for."""
        pixels = opened.slide.read(scale.level, box.x, box.y, scale.side, scale.side, scale.by)
        if scale.side < len(out):
            enlarge(pixels, out)
        elif scale.side == len(out):
            out[:] = pixels
        else:
            tiling_cpu.reduce(pixels, out)
        return tiling_cpu.hsv_share(out) if self.rules.hsv else 1.0


def enlarge(pixels: Pixels, out: Pixels) -> None:
    """Pixels (S, S, 3) as a larger square, cubic; ``out`` is written."""
    size = len(out)
    side = resize_cpu.padded(size)
    planes = np.zeros((3, side, side), np.float32)
    resize_cpu.apply(np.ascontiguousarray(pixels), 0.0, 0.0, 1.0, 1.0, False, size, planes)
    out[:] = planes[:, :size, :size].transpose(1, 2, 0)
