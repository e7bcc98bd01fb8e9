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
from pathtrain.data.training_data import of
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
    return Loader(of(data), BatchOptions.of(recipe), **more)


def take(count: int, data: Dataset, recipe: Recipe, **more: Any) -> list[Batch]:
    return list(islice(load_from(data, recipe, **more), count))


JITTER = Jitter(0.2, 5, 0.1)  # of JITTERED


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Any], list[Any]]]:
    """Whole tiles of each batch, as they go into the stage and come out of it."""
    seen: list[tuple[list[Any], list[Any]]] = []
    build = view_graph.on_batches

    def spying(stage: Stage, threads: int) -> Any:
        inner = build(stage, threads)

        def apply(tiles: list[Any], *given: list[Any]) -> Any:
            result = inner(tiles, *given)
            changed = result[0] if isinstance(result, tuple) else result
            seen.append(([tile.copy() for tile in tiles], [tile.copy() for tile in changed]))
            return result

        return apply

    monkeypatch.setattr(view_graph, "on_batches", spying)
    return seen


def shown(batch: Batch, index: int) -> list[Any]:
    """The two views of a tile, (64, 64, 3)."""
    return [(255 * view[index]).round().permute(1, 2, 0).numpy() for view in batch.views]


def jittered(tile: Any, fits: stain.StainFit, position: int, seed: int) -> list[Any]:
    """The two views of a whole tile as it is after normalising; with the fit (N = 1) that it then has."""
    numbers = draw(np.array([position]), seed, 2)[0]
    return [stain.apply([tile], stain.matrix(fits, None, JITTER, row[None]))[0] for row in numbers]


def at_target(fits: stain.StainFit, index: int) -> stain.StainFit:
    """What a normalised tile has."""
    goal, status = stain.Target.default(), fits.status[index : index + 1]
    return stain.StainFit(goal.he[None], goal.max_c[None], np.zeros(1, np.int64), status)


@pytest.mark.parametrize("more", [[], JITTERED])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_loaders_pixels_are_the_stain_of_the_decoded_tiles(
    stained: Make, monkeypatch: pytest.MonkeyPatch, more: list[str], threads: int
) -> None:
    """Bit by bit, for tiles of differing sizes: normalised as a whole, jittered view by view."""
    dataset, seen = Dataset(stained("fit")), spied(monkeypatch)
    wanted = load("smoke", [*TINY, *UNCHANGED, "batch=7", "stain.mode=normalize", *more])
    loader = load_from(dataset, wanted, threads=threads)
    every, compared = rows(dataset), 0
    for number, batch in enumerate(islice(loader, 4)):
        decoded, changed = seen[number]
        chosen = fits([every[tile] for tile in batch.tiles])
        expected = stain.apply(decoded, stain.matrix(chosen, stain.Target.default()))
        for index, tile in enumerate(batch.tiles):
            stored = simplejpeg.decode_jpeg(loader.read(int(tile)))
            assert np.array_equal(changed[index], expected[index])
            assert np.abs(decoded[index].astype(int) - stored).max() <= 1
            if stored.shape != (64, 64, 3):
                continue
            views = shown(batch, index)
            if more:
                position = 7 * number + index
                assert all(
                    map(
                        np.array_equal,
                        views,
                        jittered(expected[index], at_target(chosen, index), position, wanted.seed),
                    )
                )
                differ = chosen.status[index] == Status.FITTED
                assert np.array_equal(views[0], views[1]) != differ
                compared += differ
            else:
                assert np.array_equal(views[0], expected[index])
        again = loader.stained(number, decoded)
        assert again is not None
        assert all(np.array_equal(one, other) for one, other in zip(again, expected, strict=True))
    assert not more or compared > 3


def test_a_jittered_view_is_the_formula_in_float64(stained: Make) -> None:
    """exp(-(A od + b)) of the decoded pixels, written out; each view of a tile has a staining of its own."""
    dataset = Dataset(stained("fit"))
    for settings in (JITTERED, ["stain.basis=hed", "stain.concentration=0.2", "stain.shift=0.1"]):
        wanted = load("smoke", [*TINY, *UNCHANGED, "batch=7", "stain.mode=jitter", *settings])
        loader = load_from(dataset, wanted)
        every, batch = rows(dataset), next(iter(loader))
        numbers = draw(np.arange(7), wanted.seed, 2)
        for index, tile in enumerate(batch.tiles.tolist()):
            row, stored = every[tile], simplejpeg.decode_jpeg(loader.read(tile))
            if stored.shape != (64, 64, 3) or row["he"] is None:
                continue
            od = -np.log((stored.reshape(-1, 3) + 1.0) / stain.IO).T
            found = []
            for number, view in zip(numbers[index], shown(batch, index), strict=True):
                if settings is JITTERED:
                    matrix = stain.matrix(fits([row]), None, JITTER, number[None])[0]
                else:
                    matrix = stain.hed(1, Jitter(0.2, shift=0.1), number[None, :6])[0]
                exact = stain.IO * np.exp(-(matrix[:, :3] @ od + matrix[:, 3:]).T).reshape(64, 64, 3)
                # the decoder's level, and bytes that are truncated
                off = np.abs(np.clip(exact, 0, 255) - 0.5 - view)
                assert np.quantile(off, 0.99) < 2.5
                found.append(view)
            assert np.abs(found[0] - found[1]).mean() > 1


@pytest.mark.parametrize("mode", ["none", "fit"])
@pytest.mark.parametrize("more", [["normalize"], ["normalize", *JITTERED], ["jitter", *JITTERED]])
def test_fits_made_on_loading(
    stained: Make, monkeypatch: pytest.MonkeyPatch, mode: str, more: list[str]
) -> None:
    """Bit by bit those of the decoded tiles; what cannot be fitted stays as it is, and is counted."""
    dataset, seen = Dataset(stained(mode)), spied(monkeypatch)
    settings = [f"stain.mode={more[0]}", "stain.fit=load", *more[1:]]
    wanted = load("smoke", [*TINY, *UNCHANGED, "batch=20", *settings])
    loader = load_from(dataset, wanted)
    assert loader.unfitted == (0, 0)
    batches = list(islice(loader, 3))
    statuses: list[int] = []
    normalising = more[0] == "normalize"
    for number, (decoded, changed) in enumerate(seen):
        found = stain.fit(decoded)
        statuses += found.status.tolist()
        whole = stain.apply(decoded, stain.matrix(found, stain.Target.default())) if normalising else decoded
        assert all(map(np.array_equal, changed, whole))
        for index, (old, new) in enumerate(zip(decoded, changed, strict=True)):
            left = found.status[index] == Status.UNFITTED
            assert np.array_equal(old, new) == (left or not normalising)
            if old.shape == (64, 64, 3) and len(more) > 1 and number < len(batches):
                own = at_target(found, index) if normalising else fits_at(found, index)
                views = jittered(new, own, 20 * number + index, wanted.seed)
                assert all(map(np.array_equal, shown(batches[number], index), views))
                assert np.array_equal(views[0], views[1]) == left
    left = statuses.count(Status.UNFITTED)
    assert left > 0
    assert loader.unfitted == (len(statuses) - left, left)
    again = loader.stained(0, seen[0][0])
    assert again is not None
    assert all(map(np.array_equal, again, seen[0][1]))
    (later,) = take(1, dataset, wanted, start=2)
    assert same(later, batches[2])


def fits_at(fits: stain.StainFit, index: int) -> stain.StainFit:
    """One tile's."""
    part = slice(index, index + 1)
    return stain.StainFit(fits.he[part], fits.max_c[part], fits.tissue_pixels[part], fits.status[part])


def test_fits_made_on_loading_have_the_datasets_options(
    stained: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset(stained("fit"))
    monkeypatch.setattr(dataset, "params", {"stain": {**dataset.params["stain"], "io": 250.0, "keep": "any"}})
    found = stage_of(dataset, recipe("stain.mode=normalize", "stain.fit=load"))
    assert found is not None
    tiles = [simplejpeg.decode_jpeg(load_from(dataset, recipe()).read(tile)) for tile in range(3)]
    expected = stain.matrix(stain.fit(tiles, keep="any", io=250.0), stain.Target.default())
    assert all(map(np.array_equal, found.apply(tiles)[0], stain.apply(tiles, expected, io=250.0)))


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
