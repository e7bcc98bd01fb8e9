"""Colour, blur and solarising of views: the compiled ones against a float64 reference and against DALI's."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.cuda_shim import Shim, ShimDevice
from nvidia.dali import fn, pipeline_def
from scipy import ndimage

from pathprep import stain
from pathprep.kernels import colour_cuda
from pathprep.kernels import colour_reference as colour
from pathprep.kernels import macenko_reference as reference
from pathtrain.data import view_effects, view_graph, view_params
from pathtrain.recipes.load import load

COUNT = 24
RECIPE = load("exaonepath1")
Pixels = npt.NDArray[np.uint8]


def noise(side: int, seed: int = 0) -> Pixels:
    fine = np.random.default_rng(seed).normal(140, 60, (side, side, 3))
    return np.clip(ndimage.gaussian_filter(fine, (1, 1, 0)) * 2 - 140, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("shape", [(40, 56), (5, 4), (1, 9)])
def test_blur_is_a_gaussian_of_three_sigma_mirrored_at_the_border(
    sigma: float, shape: tuple[int, int]
) -> None:
    tile = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    reach = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(tile.astype(float), (sigma, sigma, 0), mode="mirror", radius=reach)
    found = view_effects.Compiled(["blur", "sigma"], 1)([tile], [np.array(True)], [np.float32(sigma)])[0]
    assert np.abs(found - expected).max() < 0.51
    assert found.dtype == np.uint8


def by_dali(tiles: list[Pixels], given: dict[str, npt.NDArray[Any]]) -> list[Pixels]:
    def feed(name: str) -> Any:
        return lambda: list(given[name])

    feeds = {name: feed(name) for name in given}

    @pipeline_def(batch_size=len(tiles), num_threads=1, device_id=None, enable_conditionals=True)  # type: ignore[untyped-decorator]
    def graph() -> Any:
        fed = {name: fn.external_source(source=source, batch=True) for name, source in feeds.items()}
        return view_effects.blurred_by_dali(
            fn.external_source(source=lambda: tiles, batch=True, layout="HWC"), fed
        )

    pipeline = graph()
    (out,) = pipeline.run()
    return [np.asarray(out.at(number)) for number in range(len(tiles))]


@pytest.mark.parametrize(("number", "threads"), [(0, 1), (1, 3), (2, 1)])
def test_compiled_effects_are_those_of_dali(number: int, threads: int) -> None:
    """Blur and solarise by DALI's operators, colour by the kernel's reference."""
    recipe = load("exaonepath1", ["views.globals.solarise=[0.3,0.3]", "views.locals.solarise=[0.3]"])
    view = view_params.views(recipe.views)[number]
    tiles = [noise(view.size, seed) for seed in range(COUNT)]
    drawn = view_params.draw(recipe.views, view, number, np.arange(COUNT), 0)
    keys = view_graph.columns(view)
    given = dict(zip(keys, view_graph.inputs(drawn, keys), strict=True))
    work = view_effects.Compiled(keys, threads)
    assert work.names == list(view_effects.NAMES[1:])
    before = [tile.copy() for tile in tiles]
    found = work(tiles, *(list(given[name]) for name in work.names))
    coloured = [colour.apply(tile, row) for tile, row in zip(tiles, given["colour"], strict=True)]
    expected = by_dali(coloured, {name: given[name] for name in work.names[1:]})
    different = [np.abs(one.astype(int) - other) for one, other in zip(found, expected, strict=True)]
    # solarising what was rounded to 127 here and to 128 there gives 127 and 127
    assert max(each.max() for each in different) <= 1
    assert np.mean([each > 0 for each in different]) < 2e-3
    assert all(np.array_equal(one, other) for one, other in zip(tiles, before, strict=True))
    assert any(not np.array_equal(one, other) for one, other in zip(found, tiles, strict=True))


def test_what_a_recipe_never_does_is_not_asked_for() -> None:
    assert view_effects.Compiled(["start", "end"], 1).names == []


def test_what_a_gpu_does_to_stain_and_colour_is_what_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its function on numpy arrays, its kernel built for the CPU; a view takes the matrix of its number."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be built for the CPU")
    device = ShimDevice(Shim(Path(colour_cuda.__file__).parent / "colour.cu", ["colour"], tmp_path))
    monkeypatch.setattr(colour_cuda, "module", lambda _: device)
    monkeypatch.setattr(colour_cuda, "THREADS", 64)
    rng, number = np.random.default_rng(0), 1
    tiles = [noise(20, seed) for seed in range(3)]
    jitter = stain.Jitter(0.2, shift=0.1)
    matrices = list(stain.hed(6, jitter, rng.uniform(-1, 1, (6, 6))).reshape(3, 2, 3, 4))
    matrices[0][:] = np.eye(3, 4)  # of a tile without a fit
    drawn = view_params.draw(RECIPE.views, view_params.views(RECIPE.views)[0], 0, np.arange(3), 0)
    colours = list(view_graph.inputs(drawn, ["colour"])[0])
    found = view_effects.recoloured(["stain", "colour"], number, 240.0)(tiles, matrices, colours)
    compiled = view_effects.Compiled(["stain", "colour"], 1, number, 240.0)(tiles, matrices, colours)
    for one, other, tile, matrix, row in zip(found, compiled, tiles, matrices, colours, strict=True):
        restained = reference.apply(tile, matrix[number], 240.0)
        expected = colour.apply(restained, row.astype(float))
        assert np.abs(one.astype(int) - other).max() <= 1
        assert np.abs(other.astype(int) - expected).max() <= 3  # truncated a level apart, then made stronger
