"""A GPU's views: DALI's operators, run on the CPU, and this project's kernels, against the compiled views."""

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
from pathtrain.data import view_effects, view_numbers, view_params
from pathtrain.data.view_cutter import Cutter
from pathtrain.recipes.load import load

COUNT = 24
RECIPE = load(
    "exaonepath1", ["views.globals.solarise=[0.3,0.3]", "views.locals.solarise=[0.3]", "views.turn=0.5"]
)
VIEWS = view_params.views(RECIPE.views)[:3]
Pixels = npt.NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    fine = np.random.default_rng(seed).normal(140, 60, (height, width, 3))
    return np.clip(ndimage.gaussian_filter(fine, (1, 1, 0)) * 2 - 140, 0, 255).astype(np.uint8)


def by_dali(tiles: list[Pixels], rows: npt.NDArray[np.float32], number: int) -> list[Pixels]:
    """A view by the operators of the GPU's graph; colour, which is none of them, by its reference."""
    view = VIEWS[number]

    def run(step: Any, images: list[Pixels]) -> list[Pixels]:
        @pipeline_def(batch_size=len(tiles), num_threads=1, device_id=None, enable_conditionals=True)  # type: ignore[untyped-decorator]
        def graph() -> Any:
            given = fn.external_source(source=lambda: images, batch=True, layout="HWC")
            return step(given, view, number, fn.external_source(source=lambda: rows, batch=True))

        pipeline = graph()
        (out,) = pipeline.run()
        return [np.array(out.at(at)) for at in range(len(tiles))]

    resized = run(view_effects.resized, tiles)
    settings = rows[:, number, view_numbers.COLOUR].astype(float)
    return run(
        view_effects.finished, [colour.apply(one, row) for one, row in zip(resized, settings, strict=True)]
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_the_cpus_views_are_those_of_dali(threads: int) -> None:
    """Of tiles of many sizes; but for a few in a thousand that are resized to the next level, of which colour
    makes up to four: brightness and contrast are up to 1.4 each, and all of it is rounded three times."""
    tiles = [noise(40 + 11 * seed, 300 - 9 * seed, seed) for seed in range(COUNT)]
    before = [tile.copy() for tile in tiles]
    rows = view_numbers.packed(view_params.draw(RECIPE.views, VIEWS, np.arange(COUNT), 0))
    cutter = Cutter([view.size for view in VIEWS], [0.0] * 3, [1.0] * 3, threads, 240.0)
    cutter(tiles, list(rows))
    for number, found in enumerate(cutter.take()):
        expected = np.stack(by_dali(tiles, rows, number))
        different = np.abs(found.numpy().transpose(0, 2, 3, 1) - expected)
        assert different.max() <= 4
        assert (different > 1).mean() < 3e-4
        assert (different > 0).mean() < 1e-2
    assert all(np.array_equal(one, other) for one, other in zip(tiles, before, strict=True))
    drawn = rows[..., [view_numbers.TRANSPOSE, view_numbers.SIGMA, view_numbers.SOLARISE]]
    assert (drawn > 0).any(axis=(0, 1)).all()


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
    views = [[noise(20, 20, 3 * view + tile) for tile in range(3)] for view in range(2)]
    jitter = stain.Jitter(0.2, shift=0.1)
    matrices = list(stain.hed(6, jitter, rng.uniform(-1, 1, (6, 6))).reshape(3, 2, 3, 4))
    matrices[0][:] = np.eye(3, 4)  # of a tile without a fit
    numbers = list(view_numbers.packed(view_params.draw(RECIPE.views, VIEWS[:2], np.arange(3), 0)))
    found = view_effects.recolour(2, True, 240.0)(*views, numbers, matrices)
    for one, tile, matrix, row in zip(found[number], views[number], matrices, numbers, strict=True):
        restained = reference.apply(tile, matrix[number], 240.0)
        expected = colour.apply(restained, row[number, view_numbers.COLOUR].astype(float))
        assert np.abs(one.astype(int) - expected).max() <= 2
        assert np.abs(one.astype(int) - tile).max() > 5
