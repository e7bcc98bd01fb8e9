"""Colour jitter: the float64 reference against torchvision, the compiled and the CUDA version against it."""

import colorsys
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cuda_shim import Shim, ShimDevice
from torchvision.transforms.v2 import functional

from pathprep.kernels import colour_cpu, colour_cuda, cuda
from pathprep.kernels import colour_reference as reference
from pathprep.kernels.colour_reference import Bytes


def setting(**changes: float) -> Any:
    names = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "grey": 0.0} | changes
    return reference.settings(**{name: np.array([value]) for name, value in names.items()})[0].astype(
        np.float32
    )


def every_colour(side: int = 64) -> Bytes:
    """Random colours, and those where sectors of the circle meet: greys, equal channels, black, white."""
    view = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    view[0] = np.arange(side, dtype=np.uint8)[:, None] * 4
    for row, (one, other) in enumerate(((0, 1), (1, 2), (0, 2)), 1):
        view[row, :, one] = view[row, :, other]
    view[4, :8], view[4, 8:16] = 0, 255
    return view


@pytest.mark.parametrize("hue", [-0.5, -0.1, -0.03, 0.03, 0.1, 0.37])
def test_hue_is_torchvisions_within_a_level(hue: float) -> None:
    view = every_colour()
    theirs = functional.adjust_hue(torch.from_numpy(view).permute(2, 0, 1), hue).permute(1, 2, 0).numpy()
    ours = reference.apply(view, setting(hue=hue))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    x = view[7, 7] / 255
    h, s, v = colorsys.rgb_to_hsv(*x)
    expected = 255 * np.array(colorsys.hsv_to_rgb((h + hue) % 1, s, v))
    np.testing.assert_allclose(reference.turned(view[7, 7].astype(float), hue), expected, atol=1e-9)


CASES = [
    setting(),
    setting(hue=0.1),
    setting(hue=-0.5),
    setting(brightness=1.4, contrast=0.6, saturation=1.2, hue=-0.1),
    setting(brightness=0.6, contrast=1.4, saturation=0.8, hue=0.05, grey=1),
    setting(grey=1),
]
SIZES = [(96, 96), (5, 7), (1, 1), (33, 65)]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> ShimDevice:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be built for the CPU")
    source = Path(cuda.__file__).parent / "colour.cu"
    return ShimDevice(Shim(source, ["colour"], tmp_path_factory.mktemp("shim")))


def assert_reference(view: Bytes, setting: Any, found: Bytes) -> None:
    """Within a level, where float32 rounds to another one than float64."""
    expected = reference.apply(view, setting.astype(float))
    different = np.abs(found.astype(int) - expected)
    assert different.max() <= 1
    assert (different > 0).sum() <= max(1, 2e-3 * different.size)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_compiled_is_the_reference(case: int) -> None:
    for shape in SIZES:
        view = every_colour(128)[: shape[0], : shape[1]].copy()
        # on planes, with what lies beside the view in its rows
        planes = np.full((3, shape[0], shape[1] + 7), 99, np.float32)
        planes[:, :, : shape[1]] = view.transpose(2, 0, 1)
        colour_cpu.apply(planes, *shape, CASES[case])
        found = planes[:, :, : shape[1]].transpose(1, 2, 0)
        assert_reference(view, CASES[case], found.astype(np.uint8))
        assert np.array_equal(found, found.astype(np.uint8))


@pytest.mark.parametrize("where", ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_cuda_is_the_reference(
    where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "gpu":
        used: Any = cuda.module("colour.cu")
    else:
        used = request.getfixturevalue("device")
        monkeypatch.setattr(colour_cuda, "THREADS", 64)
    for shape in SIZES:
        views = [np.roll(every_colour(128), n, 1)[: shape[0], : shape[1]].copy() for n in range(len(CASES))]
        given = [used.xp.asarray(view) for view in views]
        found = colour_cuda.apply(given, used.xp.asarray(np.stack(CASES)), device=used)
        for view, case, each in zip(views, CASES, found, strict=True):
            assert_reference(view, case, each if isinstance(each, np.ndarray) else each.get())
        assert np.array_equal(views[0], found[0] if where == "cpu" else found[0].get())


def test_views_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="views of one size"):
        colour_cuda.apply([every_colour(8), every_colour(9)], np.stack(CASES[:2]))
