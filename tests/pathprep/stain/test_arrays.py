"""The stain API on other libraries' arrays: torch on the CPU, CuPy and torch on a GPU."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.cuda_shim import Shim, ShimDevice
from helpers.slides import tissue

from pathprep import stain
from pathprep.errors import StainError
from pathprep.kernels import cuda, macenko_cuda
from pathprep.stain import Jitter, StainFit, Target, arrays, fits

Tile = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def tiles() -> Tile:
    """Four tiles of 64 px, the last of them glass."""
    field = tissue(64, 192)
    return np.stack(
        [*(field[:, 64 * k : 64 * (k + 1)] for k in range(3)), np.full((64, 64, 3), 245, np.uint8)]
    )


def whole_path(tiles: Any) -> tuple[StainFit, list[Any]]:
    """Every function once."""
    found = stain.fit(tiles)
    pooled = stain.pool(found)
    filled = stain.fall_back(found, pooled)
    matrices = stain.matrix(filled, Target.default(), Jitter(0.1, 2), np.random.default_rng(0))
    ragged = [tiles[0], tiles[1][:40, :50]]
    fit_of_ragged = stain.fit(ragged)
    return filled, [
        pooled.he,
        matrices,
        stain.apply(tiles, matrices),
        stain.normalize(tiles),
        stain.normalize(tiles, found),
        *stain.normalize(ragged),
        *stain.apply(ragged, stain.matrix(fit_of_ragged)),
    ]


def values(filled: StainFit, rest: list[Any]) -> list[Any]:
    return [filled.he, filled.max_c, filled.tissue_pixels, filled.status, *rest]


def assert_alike(found: list[Any], expected: list[Any], exact: bool) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        if exact:
            np.testing.assert_array_equal(one, other)
        elif other.dtype == np.uint8 and other.ndim > 1:
            assert (np.abs(one.astype(int) - other) <= 1).mean() >= 0.9999
        else:
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-3)


def test_torch_in_torch_out(tiles: Tile) -> None:
    found = values(*whole_path(torch.from_numpy(tiles)))
    assert all(isinstance(value, torch.Tensor) for value in found)
    assert_alike([value.numpy() for value in found], values(*whole_path(tiles)), exact=True)


def test_torch_tensors_are_not_copied(tiles: Tile) -> None:
    tensor = torch.from_numpy(tiles.copy())
    assert np.shares_memory(arrays.native(tensor), tensor.numpy())
    result = np.zeros(3)
    back = arrays.returner(tensor)(result)
    assert back.data_ptr() == result.ctypes.data


def test_other_objects_are_refused(tiles: Tile) -> None:
    with pytest.raises(ValueError, match="numpy, CuPy or torch, got list"):
        stain.fit([tiles[0].tolist()])
    with pytest.raises(ValueError, match="on meta"):
        stain.fit(torch.empty((1, 8, 8, 3), dtype=torch.uint8, device="meta"))


class FirstDevice(nullcontext[None]):
    """What the API asks of a CuPy device."""

    id = 0


class OnCard(np.ndarray):
    """Stands for a CuPy array: the API takes the path of the GPU with it."""

    device = FirstDevice()

    def get(self) -> npt.NDArray[Any]:
        """A copy on the CPU."""
        return np.array(self)


class SecondDevice(FirstDevice):
    id = 1


class OnOtherCard(OnCard):
    device = SecondDevice()


@pytest.fixture
def card(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Turns numpy arrays into ones that are taken for CuPy's, their kernels run by the CPU build."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the CUDA kernels cannot be built for the CPU")
    folder, sources = tmp_path_factory.mktemp("shim"), Path(cuda.__file__).parent
    threads = 64
    shims = {
        "macenko.cu": Shim(sources / "macenko.cu", ["macenko"], folder, {"THREADS": threads}),
        "macenko_apply.cu": Shim(sources / "macenko_apply.cu", ["macenko_apply"], folder),
    }
    monkeypatch.setattr(macenko_cuda, "THREADS", threads)
    monkeypatch.setattr(macenko_cuda, "module", lambda name: ShimDevice(shims[name]))
    for module in (stain, arrays, fits):
        monkeypatch.setattr(module, "is_cupy", lambda array: isinstance(array, OnCard))
    return lambda array: array.view(OnCard)


def test_arrays_on_a_card_take_the_cuda_kernels(tiles: Tile, card: Callable[[Any], Any]) -> None:
    expected = values(*whole_path(tiles))
    assert_alike([np.asarray(value) for value in values(*whole_path(card(tiles)))], expected, exact=False)


def test_options_reach_the_cuda_kernels(tiles: Tile, card: Callable[[Any], Any]) -> None:
    options: dict[str, Any] = {"keep": "any", "alpha": 5.0, "beta": 0.2, "io": 250.0}
    plain, other = stain.fit(card(tiles)), stain.fit(card(tiles), **options)
    assert not np.allclose(plain.he, other.he, atol=1e-3)
    assert_alike([other.he, other.max_c], [(e := stain.fit(tiles, **options)).he, e.max_c], exact=False)
    target = Target.fit(tiles[0])
    found = stain.normalize(card(tiles), target=target)
    assert_alike([np.asarray(found)], [stain.normalize(tiles, target=target)], exact=False)
    found = stain.normalize(card(tiles), io=250.0)
    assert_alike([np.asarray(found)], [stain.normalize(tiles, io=250.0)], exact=False)


def test_mixtures_are_refused(tiles: Tile, card: Callable[[Any], Any]) -> None:
    for other, named in (
        (card(tiles[1]), "cupy on cuda:0 and numpy on the CPU"),
        (torch.from_numpy(tiles[1]), "numpy on the CPU and torch on the CPU"),
    ):
        for call in (stain.fit, stain.normalize):
            with pytest.raises(ValueError, match=f"one library on one device, got {named}"):
                call([tiles[0], other])
    with pytest.raises(ValueError, match="cuda:0 and cupy on cuda:1"):
        stain.fit([card(tiles[0]), tiles[1].view(OnOtherCard)])


def test_matrices_are_where_the_tiles_are(tiles: Tile, card: Callable[[Any], Any]) -> None:
    matrices = np.tile(0.9 * np.eye(3), (len(tiles), 1, 1))
    expected = stain.apply(tiles, matrices)
    tensors = torch.from_numpy(tiles)
    for given, fine in (
        (tensors, torch.from_numpy(matrices)),
        (tensors, matrices),
        (card(tiles), matrices),
        (card(tiles), card(matrices)),
    ):
        assert_alike([np.asarray(stain.apply(given, fine))], [expected], exact=False)
    for given, wrong, says in (
        (tiles, card(matrices), "of numpy on the CPU, got cupy on cuda:0"),
        (list(tiles), torch.from_numpy(matrices), "of numpy on the CPU, got torch on the CPU"),
        (tensors, card(matrices), "of numpy on the CPU or torch on the CPU, got cupy on cuda:0"),
        (card(tiles), torch.from_numpy(matrices), "or cupy on cuda:0, got torch on the CPU"),
        (card(tiles), matrices.view(OnOtherCard), "or cupy on cuda:0, got cupy on cuda:1"),
    ):
        with pytest.raises(ValueError, match=f"expected matrices .*{says}"):
            stain.apply(given, wrong)
    assert stain.apply([], torch.empty((0, 3, 3))) == []


def moved(found: StainFit, to: Callable[[Any], Any]) -> StainFit:
    return StainFit(to(found.he), to(found.max_c), to(found.tissue_pixels), to(found.status))


def test_a_target_is_numpy(tiles: Tile, card: Callable[[Any], Any]) -> None:
    pooled = stain.pool(stain.fit(tiles))
    for target, expected in (
        (Target.of(moved(pooled, torch.from_numpy), "slide"), Target.of(pooled, "slide")),
        (Target.of(moved(pooled, card), "slide"), Target.of(pooled, "slide")),
        (Target.fit(torch.from_numpy(tiles[0])), Target.fit(tiles[0])),
    ):
        assert type(target.he) is type(target.max_c) is np.ndarray
        assert target.as_params() == expected.as_params()
    with pytest.raises(StainError, match="0 tissue pixels of 4096"):
        Target.fit(torch.from_numpy(tiles[3]))


def test_fits_fall_back_on_a_pooled_fit_in_numpy(tiles: Tile, card: Callable[[Any], Any]) -> None:
    found = stain.fit(tiles)
    pooled, expected = stain.pool(found), stain.fall_back(found, stain.pool(found))
    for to in (torch.from_numpy, card):
        filled = stain.fall_back(moved(found, to), pooled)
        assert_alike([np.asarray(v) for v in values(filled, [])], values(expected, []), exact=True)
        with pytest.raises(ValueError, match="expected a pooled fit of numpy on the CPU, got"):
            stain.fall_back(found, moved(pooled, to))


def test_tiles_on_a_card_are_not_too_large(card: Callable[[Any], Any]) -> None:
    tile = card(np.broadcast_to(np.uint8(0), (4097, 4097, 3)))
    for call in (stain.fit, stain.normalize, lambda tiles: stain.apply(tiles, np.eye(3)[None])):
        with pytest.raises(ValueError, match="at most 16777216 pixels"):
            call([tile])


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_on_a_gpu(tiles: Tile, library: str) -> None:
    import cupy

    given = cupy.asarray(tiles) if library == "cupy" else torch.from_numpy(tiles).cuda()
    kind = cupy.ndarray if library == "cupy" else torch.Tensor
    found = values(*whole_path(given))
    assert all(isinstance(value, kind) for value in found)
    if library == "torch":
        assert all(value.is_cuda for value in found)
    host = [value.get() if library == "cupy" else value.cpu().numpy() for value in found]
    assert_alike(host, values(*whole_path(tiles)), exact=False)


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_targets_and_pooled_fits_between_gpu_and_cpu(tiles: Tile, library: str) -> None:
    import cupy

    given = cupy.asarray(tiles) if library == "cupy" else torch.from_numpy(tiles).cuda()
    on_card, here = stain.fit(given), stain.fit(tiles)
    target = Target.of(stain.pool(on_card), "slide")
    assert type(target.he) is type(Target.fit(given[0]).max_c) is np.ndarray
    np.testing.assert_allclose(target.he, stain.pool(here).he[0], atol=1e-3)
    filled = stain.fall_back(on_card, stain.pool(here))
    assert filled.status.tolist() == stain.fall_back(here, stain.pool(here)).status.tolist()
    with pytest.raises(ValueError, match="a pooled fit of numpy on the CPU, got"):
        stain.fall_back(here, stain.pool(on_card))
    with pytest.raises(ValueError, match="expected matrices of numpy on the CPU, got"):
        stain.apply(tiles, stain.matrix(on_card))


@pytest.mark.gpu
def test_gpu_tensors_are_not_copied(tiles: Tile) -> None:
    tensor = torch.from_numpy(tiles).cuda()
    assert arrays.native(tensor).data.ptr == tensor.data_ptr()


@pytest.mark.gpu
def test_strided_arrays_on_a_gpu(tiles: Tile) -> None:
    import cupy

    wide = cupy.asarray(np.concatenate([tiles, tiles], axis=2))
    found = stain.normalize(wide[:, :, :64]).get()
    np.testing.assert_array_equal(found, stain.normalize(cupy.asarray(tiles)).get())


@pytest.mark.gpu
def test_work_is_queued_on_the_callers_stream(tiles: Tile) -> None:
    """Pixels that arrive late on a stream are waited for by that stream, and by nothing else."""
    import cupy

    stream = torch.cuda.Stream()
    late = torch.from_numpy(tiles).cuda()
    stain.normalize(late)  # compiles
    for _ in range(20):
        with torch.cuda.stream(stream):
            tensor = torch.zeros_like(late)
            torch.cuda._sleep(20_000_000)
            tensor.copy_(late)
            found = stain.normalize(tensor)
            assert not stream.query()  # nothing waited
        stream.synchronize()
        assert_alike([found.cpu().numpy()], [stain.normalize(late).cpu().numpy()], exact=True)
    side = cupy.cuda.Stream(non_blocking=True)
    with side:
        found = stain.normalize(cupy.asarray(tiles))
    side.synchronize()
    np.testing.assert_array_equal(found.get(), stain.normalize(cupy.asarray(tiles)).get())
