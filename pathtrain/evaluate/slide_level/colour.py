"""What pixels alone say of a slide: the baselines that every slide-level result stands beside."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathtrain.data.tile_batches import batches
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.features.progress import TileProgress
from pathtrain.features.texture import PATTERNS, patterns

Floats = npt.NDArray[np.float32]

SIDE = 256  # tiles of other sizes are resized to it, so that each counts the same
BATCH = 64


def colour(dataset: Path, slides: Sequence[str], threads: int = 2) -> dict[str, Floats]:
    """Mean and SD of colour over all pixels of a slide's tiles as they are stored, and shares of patterns.

    Args:
        dataset: that the features were made from.
        slides: names.
        threads: that decode.

    Returns:
        Slide -> (34,): three means and three SDs, 0 to 1, and the mean of its tiles' local binary patterns.

    Raises:
        UsageError: a slide is not in the dataset.
        DatasetError: not a dataset, or a tile is damaged.
    """
    source = DatasetTiles(dataset)
    absent = sorted(set(slides) - set(source.slides))
    if absent:
        raise UsageError(
            f"`dataset` {dataset}: has no tile of slide {absent[0]} ({len(absent)} such); give the dataset "
            "that the features were made from"
        )
    starts = {name: number for number, name in enumerate(source.slides)}
    orders = {
        slide: np.arange(source.starts[starts[slide]], source.starts[starts[slide] + 1]) for slide in slides
    }
    found: dict[str, Floats] = {}
    progress = TileProgress(sum(map(len, orders.values())), "colour")
    for slide, order in orders.items():
        sums, squares, count = np.zeros(3), np.zeros(3), 0
        shares, tiles = np.zeros(PATTERNS), 0
        for images in batches(source, order, size=SIDE, batch=BATCH, threads=threads):
            pixels = images.numpy()
            values = pixels.reshape(-1, 3) / np.float32(255)
            sums += values.sum(axis=0, dtype=np.float64)
            squares += np.square(values).sum(axis=0, dtype=np.float64)
            count += len(values)
            shares += patterns(images.permute(0, 3, 1, 2).float() / 255).double().sum(dim=0).numpy()
            tiles += len(pixels)
            progress.advance(len(pixels))
        mean = sums / count
        sd = np.sqrt(np.maximum(squares / count - mean**2, 0))
        found[slide] = np.concatenate([mean, sd, shares / tiles]).astype(np.float32)
    return found
