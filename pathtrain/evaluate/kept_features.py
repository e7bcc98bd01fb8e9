"""Features of tiles, out of a cache as far as it has them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pathtrain.data.whole_tiles import Ints, Tiles
from pathtrain.evaluate.cache import Cache, content, key
from pathtrain.evaluate.statistics import Floats
from pathtrain.features.encode import encode
from pathtrain.features.facts import made_from
from pathtrain.features.fitting import check_tiles
from pathtrain.params.encoding import How, KeptHow
from pathtrain.runs.model import LoadedModel

STATUSES = "statuses"  # of the tiles' stain, which are known where they are decoded


def encode_kept(
    models: Sequence[LoadedModel],
    tiles: Tiles,
    order: Ints,
    how: How,
    advance: Callable[[int], None] = lambda count: None,
    lbp: bool = False,
) -> tuple[list[Floats], Floats]:
    """As ``encode``; with a ``cache`` in ``how``, what it has is not made again, and what is made is kept.

    Raises:
        UsageError: the cache cannot be a folder; or as ``encode``.
        DatasetError, ModelError, ValueError: as ``encode``.
    """
    if not isinstance(how, KeptHow) or how.cache is None:
        return encode(models, tiles, order, how, advance, lbp)
    check_tiles(models[0], tiles, how)
    cache = Cache(how.cache)
    shown = _shown(tiles, order)
    keys = [key("features", made_from(model, how, "float32"), *shown) for model in models]
    pixels_key = key("pixels", _of_pixels(models[0], how), lbp, *shown)
    kept = [cache.features(each) for each in keys]
    colour = cache.features(pixels_key)
    missing = [number for number, found in enumerate(kept) if found is None]
    if not missing and colour is not None:
        advance(len(order))
        if tiles.normaliser is not None:
            tiles.normaliser.recall(colour[1][STATUSES])
        return [found[0] for found in kept if found is not None], colour[0]
    # tiles are decoded by one pass for all that are missing; of one model in any case, which has their size
    made = missing or [0]
    before = {} if tiles.normaliser is None else tiles.normaliser.statuses
    found, pixels = encode([models[number] for number in made], tiles, order, how, advance, lbp)
    after = {} if tiles.normaliser is None else tiles.normaliser.statuses
    statuses = {name: count - before.get(name, 0) for name, count in after.items()}
    features: dict[int, Floats] = dict(zip(made, found, strict=True))
    for number in made:
        model = models[number]  # by nothing that may be other for the same key, such as its name
        said = {"architecture": model.config.name, "fingerprint": model.fingerprint, "tiles": len(order)}
        cache.keep_features(keys[number], features[number], said)
    cache.keep_features(pixels_key, pixels, {STATUSES: statuses, "tiles": len(order)})
    for number, held in enumerate(kept):
        if held is not None:
            features.setdefault(number, held[0])
    return [features[number] for number in range(len(models))], pixels


def _shown(tiles: Tiles, order: Ints) -> list[Any]:
    """What of tiles decides their pixels: their content; and where they are normalised, all that decides the
    fits: of a dataset its build, and the slides' other tiles, over which fits are pooled."""
    shown: list[Any] = [content(tiles, order)]
    if tiles.normaliser is not None and tiles.target is not None:
        shown += [content(tiles, np.arange(len(tiles))), getattr(tiles.normaliser, "io", None)]
    return shown


def _of_pixels(model: LoadedModel, how: How) -> dict[str, Any]:
    """What decides the images that a network of this size is shown, before its own mean and std."""
    target = None if model.target is None else model.target.changes()
    said = made_from(model, how, "float32")
    return {"size": said["size"], "target": target}
