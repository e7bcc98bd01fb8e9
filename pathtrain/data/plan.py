"""What is known of a rank's step before its tiles are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathtrain.data import view_numbers, view_params
from pathtrain.data.order import Ints
from pathtrain.data.source import TileSource
from pathtrain.data.view_params import View
from pathtrain.recipes.recipe import ViewsConfig


@dataclass(frozen=True)
class Plan:
    """A rank's step.

    Attributes:
        positions: (B,) of the run.
        tiles: (B,) that the order has there.
        numbers: (B, V, WIDTH) of the views, see pathtrain.data.view_numbers.
    """

    positions: Ints
    tiles: Ints
    numbers: npt.NDArray[np.float32]


def plan(positions: Ints, source: TileSource, config: ViewsConfig, views: Sequence[View], seed: int) -> Plan:
    """The plan for positions (B,), a function of them and of the seed alone."""
    drawn = view_params.draw(config, views, positions, seed)
    return Plan(positions, source.order(positions, seed), view_numbers.packed(drawn))
