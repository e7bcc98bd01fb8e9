"""The stain stage in the loader: exactly applied to whole tiles, the same from any step and on any rank."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from helpers.stains import JITTERED, fits, recipe, rows, stage_of
from helpers.toys import TINY

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.stain import Jitter, Status
from pathtrain.data import view_graph
from pathtrain.data.loader import Batch, BatchOptions, Loader
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import TrainError
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.stain.stage import Stage, draw

Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("mode", "overrides", "message"),
    [
        ("none", ["stain.expect=normalised"], r"its tiles are not normalised, which the recipe expects"),
        ("none", ["stain.mode=normalize"], r"which stain.mode=normalize needs; use stain.fit=load, .* fit`$"),
        ("none", ["stain.mode=jitter", *JITTERED], r"use stain.fit=load, .*, or stain.basis=hed, or make"),
    ],
)  # fmt: skip
def test_datasets_that_do_not_serve_a_mode(
    stained: Make, mode: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        load_from(Dataset(stained(mode)), recipe(*overrides))


def test_mode_none_has_no_stage(stained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_graph, "on_batches", lambda *_: 1 / 0)
    loader = load_from(Dataset(stained("fit")), recipe())
    next(iter(loader))
    assert loader.stained(0, []) is None


# Views that change nothing: whole tiles, no colour operations, no normalisation
UNCHANGED = [
    "model.kwargs={img_size: 64, patch_size: 16, depth: 1, embed_dim: 24, num_heads: 2}",
    "model.mean=[0, 0, 0]", "model.std=[1, 1, 1]",
    "views.globals={count: 2, size: 64, scale: [1, 1], blur: [0], solarise: [0]}",
    "views.locals={count: 0, size: 64, scale: [1, 1], blur: [0], solarise: [0]}",
    "views.ratio=[1, 1]", "views.flip=0", "views.jitter.p=0", "views.greyscale=0",
]  # fmt: skip


def load_from(data: Dataset, recipe: Recipe, **more: Any) -> Loader:
    return Loader(data, BatchOptions.of(recipe), **more)


def take(count: int, data: Dataset, recipe: Recipe, **more: Any) -> list[Batch]:
    return list(islice(load_from(data, recipe, **more), count))


@pytest.mark.parametrize("more", [[], JITTERED])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_loaders_pixels_are_the_stain_of_the_decoded_tiles(
    stained: Make, monkeypatch: pytest.MonkeyPatch, more: list[str], threads: int
) -> None:
    """Bit by bit, for tiles of differing sizes: what the stage gets, what it gives, what comes out."""
    dataset = Dataset(stained("fit"))
    seen: list[tuple[list[Any], list[Any]]] = []
    build = view_graph.on_batches

    def spying(stage: Stage, threads: int) -> Any:
        inner = build(stage, threads)

        def apply(tiles: list[Any], *given: list[Any]) -> list[Any]:
            result = inner(tiles, *given)
            seen.append(([tile.copy() for tile in tiles], [tile.copy() for tile in result]))
            return result

        return apply

    monkeypatch.setattr(view_graph, "on_batches", spying)
    wanted = load("smoke", [*TINY, *UNCHANGED, "batch=7", "stain.mode=normalize", *more])
    loader = load_from(dataset, wanted, threads=threads)
    every = rows(dataset)
    for number, batch in enumerate(islice(loader, 4)):
        decoded, changed = seen[number]
        jitter = Jitter(0.2, 5) if more else None
        positions = np.arange(7 * number, 7 * number + 7)
        numbers = draw(positions, wanted.seed) if more else None
        chosen = fits([every[tile] for tile in batch.tiles])
        matrices = stain.matrix(chosen, stain.Target.default(), jitter, numbers)
        expected = stain.apply(decoded, matrices)
        for index, tile in enumerate(batch.tiles):
            stored = simplejpeg.decode_jpeg(loader.read(int(tile)))
            assert np.array_equal(changed[index], expected[index])
            assert np.abs(decoded[index].astype(int) - stored).max() <= 1
            if stored.shape == (64, 64, 3):
                shown = (255 * batch.views[0][index]).round().permute(1, 2, 0).numpy()
                assert np.array_equal(shown, expected[index])
        again = loader.stained(number, decoded)
        assert again is not None
        assert all(np.array_equal(one, other) for one, other in zip(again, expected, strict=True))


@pytest.mark.parametrize("mode", ["none", "fit"])
@pytest.mark.parametrize("more", [[], JITTERED])
def test_fits_made_on_loading(
    stained: Make, monkeypatch: pytest.MonkeyPatch, mode: str, more: list[str]
) -> None:
    """Bit by bit those of the decoded tiles; what cannot be fitted stays as it is, and is counted."""
    dataset = Dataset(stained(mode))
    seen: list[tuple[list[Any], list[Any]]] = []
    build = view_graph.on_batches

    def spying(stage: Stage, threads: int) -> Any:
        inner = build(stage, threads)

        def apply(tiles: list[Any], *given: list[Any]) -> list[Any]:
            result = inner(tiles, *given)
            seen.append(([tile.copy() for tile in tiles], [tile.copy() for tile in result]))
            return result

        return apply

    monkeypatch.setattr(view_graph, "on_batches", spying)
    wanted = load("smoke", [*TINY, *UNCHANGED, "batch=20", "stain.mode=normalize", "stain.fit=load", *more])
    loader = load_from(dataset, wanted)
    assert loader.unfitted == (0, 0)
    batches = list(islice(loader, 3))
    statuses: list[int] = []
    for number, (decoded, changed) in enumerate(seen):
        found = stain.fit(decoded)
        statuses += found.status.tolist()
        numbers = draw(np.arange(20 * number, 20 * number + 20), wanted.seed) if more else None
        jitter = Jitter(0.2, 5) if more else None
        expected = stain.apply(decoded, stain.matrix(found, stain.Target.default(), jitter, numbers))
        assert all(map(np.array_equal, changed, expected))
        for tile, status, old, new in zip(loader.tiles(number), found.status, decoded, changed, strict=True):
            assert np.array_equal(old, new) == (status == Status.UNFITTED)
            stored = simplejpeg.decode_jpeg(loader.read(int(tile)))
            assert np.abs(old.astype(int) - stored).max() <= 1
    left = statuses.count(Status.UNFITTED)
    assert left > 0
    assert loader.unfitted == (len(statuses) - left, left)
    again = loader.stained(0, seen[0][0])
    assert again is not None
    assert all(map(np.array_equal, again, seen[0][1]))
    (later,) = take(1, dataset, wanted, start=2)
    assert same(later, batches[2])


def test_fits_made_on_loading_have_the_datasets_options(
    stained: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset(stained("fit"))
    monkeypatch.setattr(dataset, "params", {"stain": {**dataset.params["stain"], "io": 250.0, "keep": "any"}})
    found = stage_of(dataset, recipe("stain.mode=normalize", "stain.fit=load"))
    assert found is not None
    tiles = [simplejpeg.decode_jpeg(load_from(dataset, recipe()).read(tile)) for tile in range(3)]
    expected = stain.matrix(stain.fit(tiles, keep="any", io=250.0), stain.Target.default())
    assert all(map(np.array_equal, found.apply(tiles), stain.apply(tiles, expected, io=250.0)))


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_resumed_loaders_and_ranks_see_the_same_stain(stained: Make) -> None:
    dataset, wanted = Dataset(stained("fit")), recipe("stain.mode=normalize", *JITTERED)
    straight = take(4, dataset, wanted)
    later = take(2, dataset, wanted, start=2, threads=1)
    assert all(same(one, other) for one, other in zip(straight[2:], later, strict=True))
    for rank in range(2):
        (mine,) = take(1, dataset, wanted, ranks=Ranks(rank, 2))
        assert all(torch.equal(a, b[rank::2]) for a, b in zip(mine.views, straight[0].views, strict=True))
    assert not same(straight[0], take(1, dataset, recipe("stain.mode=normalize"))[0])
    assert not same(straight[0], take(1, dataset, recipe())[0])


def test_a_failing_stage_is_an_error_that_says_why(stained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        def apply(*_: Any) -> Any:
            raise ArithmeticError("out of ink")

        return apply

    monkeypatch.setattr(view_graph, "on_batches", broken)
    with pytest.raises(TrainError, match=r"step 1: .*ArithmeticError: out of ink"):
        take(1, Dataset(stained("fit")), recipe("stain.mode=normalize"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("fit", ["stored", "load"])
def test_the_gpu_gives_the_cpus_stain(stained: Make, fit: str) -> None:
    """Other decoder and arithmetic: within 3 grey levels on average, as without a stain stage."""
    changes = [*UNCHANGED, "batch=7", "stain.mode=normalize", f"stain.fit={fit}", *JITTERED]
    wanted = load("smoke", [*TINY, *changes])
    cpu = take(3, Dataset(stained("fit")), wanted)
    gpu = take(3, Dataset(stained("fit")), wanted, ranks=Ranks(device=torch.device("cuda", 0)))
    for one, other in zip(cpu, gpu, strict=True):
        assert other.views[0].is_cuda
        assert 255 * (one.views[0] - other.views[0].cpu()).abs().mean() < 3
