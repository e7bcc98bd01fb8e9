"""What a rank does in a step of a hierarchical run: tiles, regions and slides."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pathtrain.data.layout import Layout
from pathtrain.data.order import Ints


@dataclass(frozen=True)
class Regions:
    """A rank's regions of a step.

    Attributes:
        pixels: (N + 1, H, W, 3) uint8, the background last.
        layout: of all of them together.
        places: (B,) their positions in the run.
    """

    pixels: Tensor
    layout: Layout
    places: Ints


@dataclass(frozen=True)
class Slide:
    """A slide.

    Attributes:
        pixels: (N + 1, H, W, 3) uint8, the background last.
        layout: of its tiles, or of those that a step draws.
        labels: (T,) class numbers, -1 where unknown; see pathtrain.data.slide_labels.
        row: of the labels.
    """

    pixels: Tensor
    layout: Layout
    labels: Tensor
    row: int = 0


@dataclass(frozen=True)
class Work:
    """What a rank does in a step; an objective that is not due has none.

    Attributes:
        tiles: views, as of pathtrain.data.loader.Batch.
    """

    tiles: list[Tensor] = field(default_factory=list)
    regions: Regions | None = None
    slides: list[Slide] = field(default_factory=list)


@dataclass(frozen=True)
class Batch:
    """A step: its work, a tile number per sample (of regions and slides the first), seconds of waiting."""

    views: Work
    tiles: npt.NDArray[np.int64]
    wait: float
