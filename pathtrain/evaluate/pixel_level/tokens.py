"""Patch tokens of windows, computed once and kept on the disk: decoders of many seeds are trained on them.

Of a ViT-g at 392 px a window has 2.4 MB in float16, so they are read from the disk a batch at a time.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json
from pathtrain.evaluate.cache import Cache
from pathtrain.evaluate.pixel_level.windows import Windows
from pathtrain.features.encode import Passes, resampled
from pathtrain.params.encoding import How
from pathtrain.params.segmentation import Kept
from pathtrain.runs.model import LoadedModel

Tokens = npt.NDArray[Any]  # float16 or float32
VERSION = 1  # of what is kept


def tokens_of(
    models: Sequence[LoadedModel],
    windows: Windows,
    how: How,
    kept: Kept,
    folder: Path,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Tokens]:
    """The patch tokens of windows, after the last norm, of each model: (N, P, D) on the disk.

    Args:
        models: with the read-out ``patches`` and the same normalisation.
        folder: that they lie in where there is no ``cache``.
        cache: whose folder ``tokens`` they are looked for in, and kept in for the next time.
        advance: called with the number of windows that were finished.

    Raises:
        UsageError: float16 does not hold them. ModelError: they are not finite.
    """
    size = windows.pixels.shape[1]
    digest = hashlib.sha256(np.ascontiguousarray(windows.pixels).data).hexdigest() if cache else ""
    names = [_key(model, how, kept, size, digest) for model in models]
    found: dict[int, Tokens] = {}
    if cache is not None:
        cache = Cache(cache).folder / "tokens"
        cache.mkdir(exist_ok=True)
        atomic.sweep(cache)
        for place, name in enumerate(names):
            old = _kept_before(cache, name)
            if old is not None:
                found[place] = old
    missing = [place for place in range(len(models)) if place not in found]
    if not missing:
        advance(len(windows))
        return [found[place] for place in range(len(models))]
    folder.mkdir(parents=True, exist_ok=True)
    arrays: list[Tokens] = [
        np.lib.format.open_memmap(
            folder / f"tokens-{names[place]}.npy",
            "w+",
            np.dtype(kept),
            (len(windows), *models[place].shape(size)),
        )
        for place in missing
    ]
    _encode([models[place] for place in missing], windows, how, arrays, advance)
    for place, array in zip(missing, arrays, strict=True):
        if cache is not None:
            _keep(cache, names[place], array)
        found[place] = array
    return [found[place] for place in range(len(models))]


def _encode(
    models: list[LoadedModel],
    windows: Windows,
    how: How,
    arrays: list[Tokens],
    advance: Callable[[int], None],
) -> None:
    def arrived(part: slice, wide: list[npt.NDArray[np.float32]]) -> None:
        for array, values in zip(arrays, wide, strict=True):
            if np.abs(values).max() > np.finfo(array.dtype).max:
                raise UsageError("`tokens` float16: tokens are beyond its range; give `tokens` float32")
            array[part] = values
        advance(part.stop - part.start)

    with Passes(models, how) as passes:
        for start in range(0, len(windows), how.batch):
            part = slice(start, min(start + how.batch, len(windows)))
            pixels = torch.from_numpy(np.array(windows.pixels[part]))
            if passes.on_card:
                pixels = pixels.pin_memory()
            wide = [np.empty((part.stop - start, *array.shape[1:]), np.float32) for array in arrays]
            passes.add(pixels, wide, partial(arrived, part, wide))


def _key(model: LoadedModel, how: How, kept: Kept, size: int, digest: str) -> str:
    """Of all that decides the tokens."""
    what = [VERSION, model.fingerprint, size, resampled(model, size), how.precision, kept, digest]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def _keep(cache: Path, name: str, array: Tokens) -> None:
    """Into the cache: the array first, then what says that it is whole."""
    with atomic.pending(cache / f"{name}.npy") as (file, temporary):
        np.lib.format.write_array(file, array)
    atomic.publish(temporary, cache / f"{name}.npy")
    atomic.write_json(cache / f"{name}.json", {"sha256": _sum(array), "shape": list(array.shape)})


def _kept_before(cache: Path, name: str) -> Tokens | None:
    """Tokens of an earlier run, if they are as they were written."""
    about = read_json(cache / f"{name}.json")
    if about is None:
        return None
    try:
        array: Tokens = np.load(cache / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None  # it is made again
    return array if _sum(array) == about.get("sha256") else None


def _sum(array: Tokens) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(array), 256):
        digest.update(np.ascontiguousarray(array[start : start + 256]).data)
    return digest.hexdigest()
