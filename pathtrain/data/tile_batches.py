"""Tiles as a network sees them at inference: whole, resized, without augmentation.

Unlike the training loader this one decodes with simplejpeg in plain threads: no pipeline to build, any
order, PNG and TIFF as well, and 2.5 to 5 times DALI's rate on the CPU for whole tiles. One definition
of what a network sees at inference serves ``embed`` and every evaluation:

    decode -> stain normalisation, if the model was trained with it (pathtrain.stain.normaliser)
    -> bicubic resize with antialiasing to a square (none if it has that size), or, as in linear
    evaluation, of the shorter side to somewhat more and a centre crop -> uint8
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pathprep.errors import DatasetError
from pathtrain.data.whole_tiles import Ints, Tiles
from pathtrain.images import Pixels, resize, resize_and_crop
from pathtrain.stain.stage import Floats

AHEAD = 2  # batches in preparation while the network works on one


def batches(
    tiles: Tiles,
    order: Ints,
    *,
    size: int,
    batch: int,
    threads: int,
    short: int | None = None,
    leave_out: Callable[[int, DatasetError], None] | None = None,
    pinned: bool = False,
) -> Iterator[Tensor]:
    """Images (B, size, size, 3) uint8, on the CPU, of the tiles in ``order``; batches may be smaller, and
    none is empty.

    Args:
        tiles: where from.
        order: (M,) tile numbers.
        size: side of the square that every tile is resized to.
        batch: images in a batch.
        threads: that decode and resize.
        short: the shorter side is resized to this many pixels and the centre cropped to ``size``; None
            resizes to ``size`` without a crop.
        leave_out: told of each tile that is missing or damaged, in their order, and the others go on; None
            ends at the first.
        pinned: in memory that a card copies from beside its other work.

    Raises:
        DatasetError: a tile is missing or damaged; it names the tile.
    """
    ready: deque[tuple[Tensor, list[tuple[int, Future[None]]]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def begun(tile: int, matrix: Floats | None, place: Pixels) -> Future[None]:
        try:
            data = tiles.read(tile)  # by one thread
        except DatasetError as error:
            missing: Future[None] = Future()
            missing.set_exception(error)
            return missing
        return pool.submit(prepare, data, tile, matrix, place)

    def prepare(data: bytes, tile: int, matrix: Floats | None, place: Pixels) -> None:
        """Write an image where it belongs in its batch: one thread that does it for all is soon too slow."""
        pixels = tiles.pixels(data, tile)
        if tiles.normaliser is not None:
            pixels = tiles.normaliser(pixels, matrix, tile)
        np.copyto(place, resize(pixels, size) if short is None else resize_and_crop(pixels, short, size))

    def finished() -> Iterator[Tensor]:
        images, futures = ready.popleft()
        good = []
        for row, (tile, image) in enumerate(futures):
            try:
                image.result()
            except DatasetError as error:
                if leave_out is None:
                    raise
                leave_out(tile, error)
            else:
                good.append(row)
        if len(good) == len(images):
            yield images
        elif good:
            yield images[good].pin_memory() if pinned else images[good]

    try:
        for start in range(0, len(order), batch):
            numbers = order[start : start + batch]
            matrices = tiles.normaliser.matrices(numbers) if tiles.normaliser else [None] * len(numbers)
            images = torch.empty((len(numbers), size, size, 3), dtype=torch.uint8, pin_memory=pinned)
            triples = zip(numbers.tolist(), matrices, images.numpy(), strict=True)
            ready.append((images, [(tile, begun(tile, matrix, place)) for tile, matrix, place in triples]))
            if len(ready) > AHEAD:
                yield from finished()
        while ready:
            yield from finished()
    finally:
        pool.shutdown(cancel_futures=True)
