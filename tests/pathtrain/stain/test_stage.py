"""The stain stage: the right matrix for every tile, exactly applied, reproducible, or refused."""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
import torch
from helpers.toys import TINY, noise, write_dataset

from pathprep import stain
from pathprep.dataset import index_cache as corpus
from pathprep.dataset.reader import Dataset
from pathprep.stain import Jitter, StainFit, Status
from pathtrain.data import view_graph as views
from pathtrain.data.loader import Batch, BatchOptions, Loader
from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import RecipeError, TrainError
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe, StainConfig
from pathtrain.stain.stage import Stage, draw, stage
from pathtrain.stain.stored_fits import stored_fits

JITTERED = ["stain.concentration=0.2", "stain.angle=5"]
Make = Callable[..., Path]


def recipe(*overrides: str) -> Recipe:
    return load("smoke", [*TINY, "batch=6", *overrides])


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Every tile's row in the index, in the order of tile numbers."""
    index = dataset.tiles(["x"])
    return [{"slide": name, **row} for name in index.slides for row in dataset.table(name).to_pylist()]


def fits(found: list[dict[str, Any]]) -> StainFit:
    """As they are in the index, read another way than the loader does."""
    he = [np.reshape(row["he"], (3, 2)) if row["he"] else np.zeros((3, 2)) for row in found]
    max_c = [row["max_c"] or (0, 0) for row in found]
    status = [Status.FITTED if row["he"] else Status.UNFITTED for row in found]
    count = np.zeros(len(found), np.int64)
    return StainFit(np.array(he, float), np.array(max_c, float), count, np.array(status, np.uint8))


def stage_of(data: Dataset, recipe: Recipe) -> Stage | None:
    return stage(data, recipe.stain, recipe.seed, partial(stored_fits, data))


def made(root: Path, *overrides: str) -> tuple[Stage, npt.NDArray[np.int64]]:
    """The stage on a dataset, and all of its tiles."""
    dataset = Dataset(root)
    index = dataset.tiles(["x"])
    found = stage_of(dataset, recipe(*overrides))
    assert found is not None
    return found, np.arange(len(index))


def test_the_dataset_has_every_status(stained: Make) -> None:
    """What the tests below rely on."""
    statuses = {row["stain_status"] for row in rows(Dataset(stained("fit")))}
    assert statuses == {"fitted", "slide_fit", "unfitted"}
    assert {row["stored"] for row in rows(Dataset(stained("fit")))} == {64, 128}


def test_normalising_matrices_are_those_of_the_stored_fits(stained: Make) -> None:
    found, tiles = made(stained("fit"), "stain.mode=normalize")
    every = rows(Dataset(stained("fit")))
    order = np.random.default_rng(0).permutation(tiles)
    expected = stain.matrix(fits([every[tile] for tile in order]), stain.Target.default())
    assert np.array_equal(found.matrices(order, order + 1000), expected)
    for matrix, tile in zip(expected, order, strict=True):
        assert np.array_equal(matrix, np.eye(3)) == (every[tile]["stain_status"] == "unfitted")


def test_the_target_is_the_recipes_file(stained: Make, target: stain.Target, tmp_path: Path) -> None:
    target.save(tmp_path / "t.json")
    found, tiles = made(stained("fit"), "stain.mode=normalize", f"stain.target={tmp_path / 't.json'}")
    expected = stain.matrix(fits(rows(Dataset(stained("fit")))), target)
    assert np.array_equal(found.matrices(tiles, tiles), expected)
    with pytest.raises(RecipeError, match=r"stain.target: .*none.json: No such file"):
        made(stained("fit"), "stain.mode=normalize", "stain.target=none.json")


@pytest.mark.parametrize("mode", ["normalize", "jitter"])
def test_jitter_takes_its_numbers_from_the_positions(stained: Make, mode: str) -> None:
    found, tiles = made(stained("fit"), f"stain.mode={mode}", *JITTERED, "seed=7")
    positions = tiles + 12345
    numbers = draw(positions, 7)
    goal = stain.Target.default() if mode == "normalize" else None
    every = fits(rows(Dataset(stained("fit"))))
    expected = stain.matrix(every, goal, Jitter(0.2, 5), numbers)
    assert np.array_equal(found.matrices(tiles, positions), expected)
    assert np.array_equal(found.matrices(tiles[3:5], positions[3:5]), expected[3:5])
    left = every.status == Status.UNFITTED
    assert left.any()
    assert np.array_equal(expected[left], np.broadcast_to(np.eye(3), expected[left].shape))
    assert not np.allclose(found.matrices(tiles, positions + 1)[~left], expected[~left])


def test_baked_tiles_are_jittered_around_the_datasets_target(stained: Make, target: stain.Target) -> None:
    """Not around the fits in the index, which are of the tiles before they were normalised."""
    root = stained("bake", target)
    found, tiles = made(root, "stain.mode=jitter", *JITTERED)
    every = fits(rows(Dataset(root)))
    fitted = every.status == Status.FITTED
    numbers = draw(tiles, 0)
    same = StainFit(
        np.repeat(target.he[None], len(tiles), 0),
        np.repeat(target.max_c[None], len(tiles), 0),
        every.tissue_pixels,
        every.status,
    )
    matrices = found.matrices(tiles, tiles)
    assert np.array_equal(matrices, stain.matrix(same, None, Jitter(0.2, 5), numbers))
    assert np.array_equal(matrices[~fitted], np.broadcast_to(np.eye(3), matrices[~fitted].shape))
    # and so baking, then jitter, is what normalising with jitter is on the plain tile
    baking = stain.matrix(every, target)
    both = stain.matrix(every, target, Jitter(0.2, 5), numbers)
    np.testing.assert_allclose((matrices @ baking)[fitted], both[fitted], atol=1e-9)


def test_jitter_keeps_the_mean_colour_of_baked_tiles(stained: Make, target: stain.Target) -> None:
    """The point of the test above, on pixels: little jitter is little change."""
    dataset = Dataset(stained("bake", target))
    found, tiles = made(dataset.root, "stain.mode=jitter", "stain.concentration=0.01")
    index = dataset.tiles(["offset", "length"])
    for tile, matrix in zip(tiles, found.matrices(tiles, tiles), strict=True):
        offset, length = (int(index.columns[name][tile]) for name in ("offset", "length"))
        slide = index.slides[int(index.slide_of(tile))]
        pixels = simplejpeg.decode_jpeg(dataset.read(slide, offset, length))
        (changed,) = stain.apply([pixels], matrix[None])
        assert np.abs(changed.astype(int) - pixels).mean() < 2.5


@pytest.mark.parametrize("mode", ["none", "fit", "bake"])
def test_hed_jitters_every_tile_of_any_dataset(stained: Make, mode: str) -> None:
    found, tiles = made(stained(mode), "stain.mode=jitter", "stain.basis=hed", "stain.concentration=0.3")
    expected = stain.hed(len(tiles), 0.3, draw(tiles + 9, 0)[:, :3])
    assert np.array_equal(found.matrices(tiles, tiles + 9), expected)
    assert (np.abs(expected - np.eye(3)).max(axis=(1, 2)) > 1e-3).all()
    assert found.io == stain.IO


def test_io_is_the_datasets(stained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(stained("fit"))
    monkeypatch.setitem(dataset.params["stain"], "io", 250.0)
    found = stage_of(dataset, recipe("stain.mode=normalize"))
    assert found is not None
    assert found.io == 250.0


@pytest.mark.parametrize(
    ("mode", "overrides", "message"),
    [
        ("bake", ["stain.mode=normalize"], r"already normalised .* use stain.mode=none, or .* --stain fit"),
        ("bake", ["stain.mode=normalize", "stain.fit=load"], r"already normalised .* stain.mode=none"),
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
    monkeypatch.setattr(views, "on_batches", lambda *_: 1 / 0)
    loader = load_from(Dataset(stained("fit")), recipe())
    next(iter(loader))
    assert loader.stained(0, []) is None


@pytest.mark.parametrize("mode", ["fit", "bake"])
def test_fits_of_a_mapped_index(
    stained: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    root = shutil.copytree(stained(mode), tmp_path / "dataset")
    every = np.arange(len(Dataset(root).tiles(["x"])))[::-1]
    held = stored_fits(Dataset(root)).take(every)
    monkeypatch.setattr(corpus, "MAPPED_FROM", 1)
    mapped = stored_fits(Dataset(root)).take(every)
    assert (root / "tiles").is_dir()
    assert {Status.FITTED, Status.UNFITTED} == set(held.status)
    for name in ("he", "max_c", "status"):
        assert np.array_equal(getattr(held, name), getattr(mapped, name))


def test_slides_without_any_fit(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path / "d", {"a": noise(3), "b": noise(2)}))
    dataset.params["stain"]["mode"] = "fit"
    found = stored_fits(dataset)
    assert found.he.shape == (5, 3, 2)
    assert np.isnan(found.own).all()
    assert (found.take(np.array([0, 4])).status == Status.UNFITTED).all()


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
    build = views.on_batches

    def spying(stage: Stage, threads: int) -> Any:
        inner = build(stage, threads)

        def apply(tiles: list[Any], *given: list[Any]) -> list[Any]:
            result = inner(tiles, *given)
            seen.append(([tile.copy() for tile in tiles], [tile.copy() for tile in result]))
            return result

        return apply

    monkeypatch.setattr(views, "on_batches", spying)
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
    build = views.on_batches

    def spying(stage: Stage, threads: int) -> Any:
        inner = build(stage, threads)

        def apply(tiles: list[Any], *given: list[Any]) -> list[Any]:
            result = inner(tiles, *given)
            seen.append(([tile.copy() for tile in tiles], [tile.copy() for tile in result]))
            return result

        return apply

    monkeypatch.setattr(views, "on_batches", spying)
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


def test_baked_tiles_are_jittered_by_their_own_fits(stained: Make) -> None:
    found = stage_of(Dataset(stained("bake")), recipe("stain.mode=jitter", "stain.fit=load", *JITTERED))
    assert found is not None
    assert found.fits_tiles


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stain.fit=load"], "fit load needs mode normalize or jitter"),
        (
            ["stain.mode=jitter", "stain.basis=hed", "stain.concentration=0.1", "stain.fit=load"],
            "needs no fit",
        ),
    ],
)
def test_fit_without_a_mode_that_fits(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(*overrides)


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

    monkeypatch.setattr(views, "on_batches", broken)
    with pytest.raises(TrainError, match=r"step 1: .*ArithmeticError: out of ink"):
        take(1, Dataset(stained("fit")), recipe("stain.mode=normalize"))


def test_gpu_tiles_go_through_in_one_call_with_stacked_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call, so that the GPU gets one batch; with a stand-in for CuPy, as there may be no GPU."""

    class Array(list[int]):
        pass

    class Cupy:
        @staticmethod
        def stack(arrays: list[Array]) -> tuple[Array, ...]:
            return tuple(arrays)

    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, "cupy", Cupy)  # type: ignore[arg-type]
    monkeypatch.setattr(stain, "apply", lambda tiles, matrix, **how: calls.append((matrix, how)) or tiles)
    tiles, matrices = [Array([1]), Array([2]), Array([3])], [Array([4]), Array([5]), Array([6])]
    config = StainConfig(mode="jitter", basis="hed", concentration=0.1)
    assert views.on_batches(Stage(config, None, None, {}, 230.0, 0), 2)(tiles, matrices) is tiles
    assert calls == [(tuple(matrices), {"io": 230.0, "threads": 2})]


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
