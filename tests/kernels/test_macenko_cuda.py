"""The CUDA kernels against the float64 reference: through a CPU build of their source, and on a GPU.

The CPU build has 128 threads a block where the card has 1,024: nothing else differs, and one test has both.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cuda_shim import Shim, ShimDevice
from helpers.macenko_cases import (
    DEGENERATE,
    adversarial,
    assert_levels,
    degrees,
    is_decided,
    pointing_away,
)
from helpers.macenko_cuda import (
    FEW_KEYS,
    SHIM_THREADS,
    SOURCES,
    TARGET_HE,
    TARGET_MAX_C,
    Runner,
    Tile,
    assert_matches,
    normalized,
    on_cpu,
    on_gpu,
    ragged,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pathprep.kernels import macenko_cuda
from pathprep.kernels import macenko_reference as reference


@pytest.mark.parametrize("options", [{}, {"keep_any": True}, {"alpha": 10.0}, {"alpha": 0.0}, {"io": 255.0}])
def test_fit_matches_reference(runner: Runner, stained: Tile, options: dict[str, Any]) -> None:
    assert assert_matches(runner, list(stained), **options) == len(stained)


def test_a_batch_is_a_list_of_tiles(runner: Runner, stained: Tile) -> None:
    for one, other in zip(runner.fit([stained]), runner.fit(list(stained)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(13, 17), (5, 7), (1, 3)])
def test_tiles_of_a_batch_may_begin_at_any_address(
    runner: Runner, stained: Tile, shape: tuple[int, int]
) -> None:
    """Some hundred bytes and an odd number apart, so that all four offsets in a word are met."""
    batch = np.resize(stained.reshape(-1, 3)[7:], (9, *shape, 3))
    whole = macenko_cuda.normalize(
        [runner.to(batch)], TARGET_HE, TARGET_MAX_C, device=runner.device("macenko")
    )[0][0]
    np.testing.assert_array_equal(runner.back(whole), runner.normalize(list(batch)))
    matrices = np.random.default_rng(0).normal(0, 0.3, (9, 3, 3)) + np.eye(3)
    applied = macenko_cuda.apply(
        [runner.to(batch)], runner.to(matrices), device=runner.device("macenko_apply")
    )[0]
    np.testing.assert_array_equal(runner.back(applied), runner.apply(list(batch), matrices))


def test_any_sizes_in_one_launch(runner: Runner, stained: Tile) -> None:
    assert assert_matches(runner, ragged(stained)) == 5  # all but the single pixel


@pytest.mark.parametrize(
    "shared",
    [macenko_cuda.scratch(macenko_cuda.FEWEST_KEYS) + macenko_cuda.STATIC + 48, 40_000, 101_376, 166_912],
)
def test_tiles_that_do_not_fit_into_shared_memory(
    shims: dict[str, Shim], monkeypatch: pytest.MonkeyPatch, stained: Tile, shared: int
) -> None:
    """Pieces of 16 pixels; some thousand; what an RTX 50 and an A100 have: the same bits."""
    monkeypatch.setattr(macenko_cuda, "THREADS", SHIM_THREADS)
    tiles = ragged(stained)[3 if shared < 40_000 else 0 :][: 1 if shared < 40_000 else None]
    small, whole = on_cpu(shims, shared=shared), on_cpu(shims)
    for one, other in zip(small.fit(tiles), whole.fit(tiles), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(small.normalize(tiles), whole.normalize(tiles), strict=True):
        np.testing.assert_array_equal(one, other)


def test_degenerate_tiles_are_refused(runner: Runner) -> None:
    assert assert_matches(runner, list(DEGENERATE.values())) == 0


def test_normalize_matches_reference(runner: Runner, stained: Tile) -> None:
    tiles = [*stained, *ragged(stained), *DEGENERATE.values()]
    for tile, found in zip(tiles, runner.normalize(tiles), strict=True):
        assert_levels(found, normalized(tile))
    for tile, found in zip(DEGENERATE.values(), runner.normalize(list(DEGENERATE.values())), strict=True):
        np.testing.assert_array_equal(found, tile)


def test_own_fit_as_target_is_the_identity(runner: Runner, stained: Tile) -> None:
    he, max_c, _, _ = runner.fit(list(stained))
    matrices = np.stack([reference.matrix(h, c, h, c) for h, c in zip(he, max_c, strict=True)])
    amounts = np.random.default_rng(0).uniform(0.05, 1.5, (96 * 96, 2))  # in the plane of the stains
    for vectors, matrix in zip(he, matrices, strict=True):
        clean = np.clip(np.rint(reference.IO * np.exp(-amounts @ vectors.T) - 1), 0, 255).astype(np.uint8)
        clean = clean.reshape(96, 96, 3)
        assert np.abs(runner.apply([clean], matrix[None])[0].astype(int) - clean).max() <= 2


@settings(max_examples=60, deadline=None)
@given(tiles=st.lists(adversarial(), min_size=1, max_size=4))
def test_adversarial_tiles_match_reference(shims: dict[str, Shim], tiles: list[Tile]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(macenko_cuda, "THREADS", SHIM_THREADS)
        he, max_c, _, _ = on_cpu(shims).fit(tiles)
        assert np.isfinite(he).all()
        assert np.isfinite(max_c).all()
        decided = [tile for tile in tiles if is_decided(tile)]
        assume(decided)
        assert_matches(on_cpu(shims), decided)


@settings(max_examples=60, deadline=None)
@given(tiles=st.lists(adversarial(), min_size=1, max_size=4), alpha=st.sampled_from([0.0, 1.0, 10.0, 40.0]))
def test_brackets_that_hold_too_much(shims: dict[str, Shim], tiles: list[Tile], alpha: float) -> None:
    """With room for 96 keys, brackets overflow at every turn, by a little and by much: the same bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(macenko_cuda, "THREADS", SHIM_THREADS)
        expected = on_cpu(shims).fit(tiles, alpha=alpha)
        patch.setattr(macenko_cuda, "FEWEST_KEYS", FEW_KEYS)
        found = on_cpu(shims).fit(tiles, alpha=alpha)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
@settings(max_examples=300, deadline=None)
@given(tiles=st.lists(adversarial(), min_size=1, max_size=16))
def test_adversarial_tiles_match_reference_on_a_gpu(tiles: list[Tile]) -> None:
    decided = [tile for tile in tiles if is_decided(tile)]
    assume(decided)
    assert_matches(on_gpu(), decided)


def sampled(tile: Tile) -> slice:
    """The pixels of a tile that its brackets are judged from."""
    pixels = tile.shape[0] * tile.shape[1]
    return slice(None, None, pixels // macenko_cuda.keys(pixels, 232448) | 1)


@pytest.mark.parametrize("colours", [((200, 120, 5), (200, 120, 15)), ((30, 190, 190), (45, 190, 190))])
def test_the_sample_cannot_mislead(runner: Runner, stained: Tile, colours: tuple[Any, Any]) -> None:
    """Only the sampled pixels are of two colours beyond all others, so both ranks lie outside the bracket."""
    tile = np.resize(stained[0], (256, 256, 3)).copy()
    chosen = tile.reshape(-1, 3)[sampled(tile)]
    chosen[::2], chosen[1::2] = colours
    assert assert_matches(runner, [tile]) == 1


def test_the_sample_sees_no_tissue(runner: Runner, stained: Tile) -> None:
    tile = np.resize(stained[0], (256, 256, 3)).copy()
    tile.reshape(-1, 3)[sampled(tile)] = 245
    assert assert_matches(runner, [tile]) == 1


@pytest.mark.parametrize("share", [0.005, 0.02, 0.2])
def test_more_equal_keys_than_can_be_kept(runner: Runner, stained: Tile, share: float) -> None:
    """Thousands of pixels of one colour at, below or across the rank that is sought."""
    rng = np.random.default_rng(0)
    tile = np.resize(stained[0], (512, 512, 3)).copy()
    pixels = tile.reshape(-1, 3)
    pixels[rng.random(len(pixels)) < share] = (90, 60, 150)
    pixels[rng.random(len(pixels)) < share] = (190, 60, 120)
    assert assert_matches(runner, [tile]) == 1


def test_large_tiles_narrow_their_brackets(runner: Runner, stained: Tile) -> None:
    assert assert_matches(runner, [np.resize(stained[1], (700, 901, 3))]) == 1


@pytest.mark.parametrize("channels", list(permutations(range(3))))
def test_stains_that_replace_each_other(runner: Runner, channels: tuple[int, ...]) -> None:
    """The largest axis has pixels on both sides of it, so the cut of the angle matters."""
    he = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])[list(channels)]
    he /= np.linalg.norm(he, axis=0)
    if he[0, 0] < he[0, 1]:
        he = he[:, ::-1]
    rng = np.random.default_rng(0)
    share, amount = rng.uniform(0, 1, (64 * 64, 1)), rng.uniform(1.4, 1.6, (64 * 64, 1))
    od = np.hstack([share, 1 - share]) * amount @ he.T
    tile = np.rint(reference.IO * np.exp(-od) - 1).astype(np.uint8).reshape(64, 64, 3)
    assert degrees(runner.fit([tile])[0][0], he).max() < 1
    assert assert_matches(runner, [tile]) == 1


def test_second_eigenvector_that_points_away_from_the_data(runner: Runner) -> None:
    assert assert_matches(runner, [pointing_away()]) == 1


def test_order_of_pixels_and_tiles_changes_no_bit(runner: Runner, stained: Tile) -> None:
    rng = np.random.default_rng(1)
    tiles = [*stained, np.resize(stained[0], (200, 220, 3))]
    first = runner.fit(tiles)
    mixed = [rng.permutation(tile.reshape(-1, 3)).reshape(tile.shape) for tile in tiles[::-1]]
    for a, b in zip(first, runner.fit(mixed), strict=True):
        np.testing.assert_array_equal(a, b[::-1])
    for a, b in zip(runner.normalize(tiles), runner.normalize(tiles[::-1])[::-1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_of_threads_changes_no_bit(
    shims: dict[str, Shim], monkeypatch: pytest.MonkeyPatch, stained: Tile, seed: int
) -> None:
    monkeypatch.setattr(macenko_cuda, "THREADS", SHIM_THREADS)
    tiles = [*stained, *ragged(stained)[:5]]
    usual, other = on_cpu(shims), on_cpu(shims, seed=seed)
    for a, b in zip(usual.fit(tiles), other.fit(tiles), strict=True):
        np.testing.assert_array_equal(a, b)
    matrices = np.random.default_rng(0).normal(0, 0.3, (len(tiles), 3, 3)) + np.eye(3)
    for one, two in (
        (usual.normalize(tiles), other.normalize(tiles)),
        (usual.apply(tiles, matrices), other.apply(tiles, matrices)),
    ):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


def test_as_many_threads_as_on_a_card(
    shims: dict[str, Shim], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stained: Tile
) -> None:
    tiles = [np.resize(stained[0], (256, 256, 3)), stained[3]]
    full = on_cpu({"macenko": Shim(SOURCES / "macenko.cu", ["macenko"], tmp_path)})
    found = [*full.fit(tiles), *full.normalize(tiles)]
    monkeypatch.setattr(macenko_cuda, "THREADS", SHIM_THREADS)
    few = on_cpu(shims)
    for a, b in zip(found, [*few.fit(tiles), *few.normalize(tiles)], strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_tables_are_kept_on_the_device(
    shims: dict[str, Shim], monkeypatch: pytest.MonkeyPatch, stained: Tile
) -> None:
    """What differs from call to call would wait for the GPU at every new value, and never be freed."""
    kept = set()

    class Device(ShimDevice):
        def constant(self, values: tuple[float, ...], dtype: Any) -> Any:
            kept.add((values, dtype))
            return super().constant(values, dtype)

    monkeypatch.setattr(macenko_cuda, "THREADS", SHIM_THREADS)
    device = Device(shims["macenko"])
    for k in (1.0, 2.0):
        macenko_cuda.fit([stained[:1]], alpha=k, beta=0.1 * k, device=device)
        macenko_cuda.normalize([stained[:1]], TARGET_HE, k * TARGET_MAX_C, device=device)
    assert [len(values) for values, _dtype in kept] == [256]


@pytest.mark.gpu
def test_threads_with_tiles_of_two_sizes(stained: Tile) -> None:
    """They share the kernel; both need more shared memory than it has unasked."""
    tiles = [np.resize(stained[0], (side, side, 3)) for side in (128, 256)]
    expected = [on_gpu().normalize([tile])[0] for tile in tiles]
    with ThreadPoolExecutor(2) as pool:
        many = pool.map(lambda tile: [on_gpu().normalize([tile])[0] for _ in range(50)], tiles)
        for found, right in zip(many, expected, strict=True):
            assert all(np.array_equal(one, right) for one in found)


def test_no_tiles(runner: Runner) -> None:
    none = np.empty((0, 8, 8, 3), np.uint8)
    assert [len(part) for part in runner.fit([none])] == [0, 0, 0, 0]
    assert [len(part) for part in runner.fit([])] == [0, 0, 0, 0]
    assert runner.normalize([]) == []
    assert (
        macenko_cuda.apply([runner.to(none)], np.empty((0, 3, 3)), device=runner.device("macenko_apply"))[
            0
        ].shape
        == none.shape
    )


def test_a_tile_that_would_overflow_the_sums_is_refused(shims: dict[str, Shim]) -> None:
    with pytest.raises(ValueError, match="4096 x 4096"):
        on_cpu(shims).fit([np.broadcast_to(np.uint8(0), (4097, 4097, 3))])


@pytest.mark.slow
def test_the_largest_tile(runner: Runner, stained: Tile) -> None:
    assert assert_matches(runner, [np.resize(stained[0], (4096, 4096, 3))]) == 1


@pytest.mark.realdata
def test_real_tiles_match_reference(runner: Runner, data: Path) -> None:
    from openslide import OpenSlide

    tiles = []
    for path in sorted((data / "slides" / "monuseg").glob("*.tif")):
        with OpenSlide(path) as slide:
            tiles.append(np.array(slide.read_region((372, 372), 0, (256, 256)).convert("RGB")))
    with OpenSlide(data / "slides" / "CMU-1-Small-Region.svs") as slide:  # half of it is glass
        block = np.array(slide.read_region((0, 0), 0, (2048, 512)).convert("RGB"))
    tiles += [block[y : y + 256, x : x + 256] for y in (0, 256) for x in range(0, 2048, 256)]
    fitted = assert_matches(runner, tiles)
    assert len(tiles) / 2 < fitted < len(tiles)
    for tile, found in zip(tiles, runner.normalize(tiles), strict=True):
        assert_levels(found, normalized(tile))
