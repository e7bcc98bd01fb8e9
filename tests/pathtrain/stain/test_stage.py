"""The stain stage: the right matrix for every tile, reproducible, or refused."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from helpers.stains import JITTERED, fits, recipe, rows, stage_of
from helpers.toys import noise, write_dataset

from pathprep import stain
from pathprep.dataset import index_cache
from pathprep.dataset.reader import Dataset
from pathprep.stain import Jitter, StainFit, Status
from pathtrain.data import view_graph
from pathtrain.errors import RecipeError
from pathtrain.recipes.recipe import StainConfig
from pathtrain.stain.stage import Stage, draw
from pathtrain.stain.stored_fits import stored_fits

Make = Callable[..., Path]
JITTER = Jitter(0.2, 5, 0.1)  # of JITTERED


def made(root: Path, *overrides: str) -> tuple[Stage, npt.NDArray[np.int64]]:
    """The stage on a dataset, and all of its tiles."""
    dataset = Dataset(root)
    index = dataset.tiles(["x"])
    found = stage_of(dataset, recipe(*overrides))
    assert found is not None
    return found, np.arange(len(index))


def of_tiles(stage: Stage, tiles: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> Any:
    """The matrices of whole tiles."""
    (matrices,) = stage.inputs(tiles, positions)
    return matrices


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
    assert np.array_equal(of_tiles(found, order, order + 1000), expected)
    for matrix, tile in zip(expected, order, strict=True):
        assert np.array_equal(matrix, np.eye(3)) == (every[tile]["stain_status"] == "unfitted")


def test_the_target_is_the_recipes_file(stained: Make, target: stain.Target, tmp_path: Path) -> None:
    target.save(tmp_path / "t.json")
    found, tiles = made(stained("fit"), "stain.mode=normalize", f"stain.target={tmp_path / 't.json'}")
    expected = stain.matrix(fits(rows(Dataset(stained("fit")))), target)
    assert np.array_equal(of_tiles(found, tiles, tiles), expected)
    with pytest.raises(RecipeError, match=r"stain.target: .*none.json: No such file"):
        made(stained("fit"), "stain.mode=normalize", "stain.target=none.json")


@pytest.mark.parametrize("mode", ["normalize", "jitter"])
def test_jitter_takes_its_numbers_from_the_positions(stained: Make, mode: str) -> None:
    found, tiles = made(stained("fit"), f"stain.mode={mode}", *JITTERED, "seed=7")
    positions = tiles + 12345
    numbers = draw(positions, 7)
    goal = stain.Target.default() if mode == "normalize" else None
    every = fits(rows(Dataset(stained("fit"))))
    expected = stain.matrix(every, goal, JITTER, numbers)
    assert np.array_equal(of_tiles(found, tiles, positions), expected)
    assert np.array_equal(of_tiles(found, tiles[3:5], positions[3:5]), expected[3:5])
    left = every.status == Status.UNFITTED
    assert left.any()
    assert np.array_equal(expected[left], np.broadcast_to(np.eye(3, 4), expected[left].shape))
    assert not np.allclose(of_tiles(found, tiles, positions + 1)[~left], expected[~left])


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
    matrices = of_tiles(found, tiles, tiles)
    assert np.array_equal(matrices, stain.matrix(same, None, JITTER, numbers))
    assert np.array_equal(matrices[~fitted], np.broadcast_to(np.eye(3, 4), matrices[~fitted].shape))
    # and so baking, then jitter, is what normalising with jitter is on the plain tile
    baking = stain.matrix(every, target)
    both = stain.matrix(every, target, JITTER, numbers)
    np.testing.assert_allclose((matrices[:, :, :3] @ baking)[fitted], both[fitted, :, :3], atol=1e-9)
    np.testing.assert_allclose(matrices[fitted, :, 3], both[fitted, :, 3], atol=1e-12)


def test_jitter_keeps_the_mean_colour_of_baked_tiles(stained: Make, target: stain.Target) -> None:
    """The point of the test above, on pixels: little jitter is little change."""
    dataset = Dataset(stained("bake", target))
    found, tiles = made(dataset.root, "stain.mode=jitter", "stain.concentration=0.01")
    index = dataset.tiles(["offset", "length"])
    for tile, matrix in zip(tiles, of_tiles(found, tiles, tiles), strict=True):
        offset, length = (int(index.columns[name][tile]) for name in ("offset", "length"))
        slide = index.slides[int(index.slide_of(tile))]
        pixels = simplejpeg.decode_jpeg(dataset.read(slide, offset, length))
        (changed,) = stain.apply([pixels], matrix[None])
        assert np.abs(changed.astype(int) - pixels).mean() < 2.5


@pytest.mark.parametrize("mode", ["none", "fit", "bake"])
def test_hed_jitters_every_tile_of_any_dataset(stained: Make, mode: str) -> None:
    found, tiles = made(
        stained(mode), "stain.mode=jitter", "stain.basis=hed", "stain.concentration=0.3", "stain.shift=0.1"
    )
    expected = stain.hed(len(tiles), Jitter(0.3, shift=0.1), draw(tiles + 9, 0)[:, :6])
    assert np.array_equal(of_tiles(found, tiles, tiles + 9), expected)
    assert (np.abs(expected - np.eye(3, 4)).max(axis=(1, 2)) > 1e-3).all()
    assert found.io == stain.IO


def test_io_is_the_datasets(stained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(stained("fit"))
    monkeypatch.setitem(dataset.params["stain"], "io", 250.0)
    found = stage_of(dataset, recipe("stain.mode=normalize"))
    assert found is not None
    assert found.io == 250.0


@pytest.mark.parametrize("mode", ["fit", "bake"])
def test_fits_of_a_mapped_index(
    stained: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    root = shutil.copytree(stained(mode), tmp_path / "dataset")
    every = np.arange(len(Dataset(root).tiles(["x"])))[::-1]
    held = stored_fits(Dataset(root)).take(every)
    monkeypatch.setattr(index_cache, "MAPPED_FROM", 1)
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
    assert view_graph.on_batches(Stage(config, None, None, {}, 230.0, 0), 2)(tiles, matrices) is tiles
    assert calls == [(tuple(matrices), {"io": 230.0, "threads": 2})]
