"""How often stain is jittered, and whether per view or per tile, in the graph's tiles and cut views."""

from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from helpers.stains import JITTERED
from helpers.toys import TINY, noise, write_dataset

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.kernels import macenko_cpu
from pathprep.kernels import macenko_reference as reference
from pathprep.stain import Jitter
from pathtrain.data.loader import Batch, BatchOptions, Loader
from pathtrain.data.training_data import of
from pathtrain.errors import RecipeError
from pathtrain.recipes.load import load
from pathtrain.stain.stage import draw

Make = Callable[..., Path]

HED = ["stain.mode=jitter", "stain.basis=hed", "stain.concentration=0.2", "stain.shift=0.1"]
# Views that change nothing: whole tiles, no colour operations, no normalisation
UNCHANGED = [
    "model.kwargs={img_size: 32, patch_size: 16, depth: 1, embed_dim: 24, num_heads: 2}",
    "model.mean=[0, 0, 0]", "model.std=[1, 1, 1]",
    "views.globals={count: 2, size: 32, scale: [1, 1], blur: [0], solarise: [0]}",
    "views.locals={count: 2, size: 32, scale: [1, 1], blur: [0], solarise: [0]}",
    "views.ratio=[1, 1]", "views.flip=0", "views.jitter.p=0", "views.greyscale=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty tiles that views of 32 px show whole."""
    return write_dataset(tmp_path_factory.mktemp("jitter") / "dataset", {"a": noise(60)})


def batches(root: Path, count: int, *more: str, **options: Any) -> tuple[list[Batch], list[Any]]:
    """Batches, and the tiles of the first as they are stored."""
    recipe = load("smoke", [*TINY, *UNCHANGED, "batch=20", *more])
    with closing(Loader(of(Dataset(root)), BatchOptions.of(recipe), **options)) as loader:
        found = list(islice(loader, count))
        stored = [simplejpeg.decode_jpeg(loader.read(tile)) for tile in found[0].tiles.tolist()]
    return found, stored


def shown(batch: Batch) -> Any:
    """(B, V, 32, 32, 3) grey levels."""
    views = [(255 * view).round().permute(0, 2, 3, 1).numpy() for view in batch.views]
    return np.stack(views, axis=1).astype(int)


def unlike(views: Any, stored: list[Any]) -> Any:
    """(B, V) whether views differ from their tiles; the loader's decoder differs by a level."""
    return np.abs(views - np.stack(stored)[:, None]).mean(axis=(2, 3, 4)) > 1


def test_a_probability_leaves_the_others_to_the_bit(plain: Path) -> None:
    without, stored = batches(plain, 3)
    every, _ = batches(plain, 3, *HED)
    some, _ = batches(plain, 3, *HED, "stain.p=0.5")
    shares = []
    for step, (none, all_, half) in enumerate(zip(without, every, some, strict=True)):
        drawn = (draw(step * 20 + np.arange(20), 0, 4, 0.5) != 0).any(axis=2)
        shares.append(drawn.mean())
        mine, theirs, still = shown(half), shown(all_), shown(none)
        assert np.array_equal(mine[drawn], theirs[drawn])  # as they are where every view is jittered
        assert np.array_equal(mine[~drawn], still[~drawn])
        if step == 0:
            assert unlike(theirs, stored).mean() > 0.9
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)  # 240 views: 2.5 standard deviations


def test_per_tile_all_views_share_it(plain: Path) -> None:
    found, stored = batches(plain, 2, *HED, "stain.per=tile")
    views = shown(found[0])
    assert (views == views[:, :1]).all()
    assert unlike(views, stored).mean() > 0.9
    numbers = draw(np.arange(20), 0)
    matrices = stain.hed(20, Jitter(0.2, shift=0.1), numbers[:, :6])
    for tile, matrix, view in zip(stored, matrices, views, strict=True):
        assert np.abs(reference.apply(tile, matrix).astype(int) - view[0]).max() <= 8  # the decoder's levels
    half, _ = batches(plain, 2, *HED, "stain.per=tile", "stain.p=0.4")
    without, _ = batches(plain, 2)
    drawn = (draw(np.arange(20), 0, 0, 0.4) != 0).any(axis=1)
    assert 2 < drawn.sum() < 15
    assert np.array_equal(shown(half[0])[drawn], views[drawn])
    assert np.array_equal(shown(half[0])[~drawn], shown(without[0])[~drawn])


@pytest.mark.parametrize("mode", [["jitter"], ["normalize"], ["jitter", "load"], ["normalize", "load"]])
@pytest.mark.parametrize("per", ["view", "tile"])
def test_around_a_tiles_own_stains_and_around_the_target(stained: Make, mode: list[str], per: str) -> None:
    """Stored fits and such made on loading: without a draw, what there is without jitter."""
    root = stained("fit")
    settings = [f"stain.mode={mode[0]}", *(["stain.fit=load"] if len(mode) > 1 else [])]
    still, _ = batches(root, 1, *(settings if mode[0] == "normalize" else []))
    some, _ = batches(root, 1, *settings, *JITTERED, "stain.p=0.5", f"stain.per={per}")
    always, _ = batches(root, 1, *settings, *JITTERED, f"stain.per={per}")
    views = 4 if per == "view" else 0
    drawn = (draw(np.arange(20), 0, views, 0.5) != 0).any(axis=-1)
    drawn = drawn if views else np.repeat(drawn[:, None], 4, axis=1)
    assert np.array_equal(shown(some[0])[drawn], shown(always[0])[drawn])
    assert np.array_equal(shown(some[0])[~drawn], shown(still[0])[~drawn])
    assert (shown(some[0])[drawn] != shown(still[0])[drawn]).any()


@pytest.mark.parametrize("per", ["view", "tile"])
def test_as_without_the_keys(plain: Path, per: str) -> None:
    """p 1 and per view are what recipes without these keys had; and any step comes first."""
    before, _ = batches(plain, 3, *HED, f"stain.per={per}", "stain.p=0.7")
    after, _ = batches(plain, 1, *HED, f"stain.per={per}", "stain.p=0.7", start=2)
    assert np.array_equal(shown(before[2]), shown(after[0]))
    numbers = draw(np.arange(5), 3, 2)
    assert np.array_equal(draw(np.arange(5), 3, 2, 1.0), numbers)
    assert (np.abs(numbers) <= 1).all()
    assert draw(np.array([0]), 0)[0, :2] == pytest.approx([0.7042463851961467, 0.9729624063052378], abs=1e-15)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stain.p=0"], "stain.p: Input should be greater than 0"),
        (["stain.p=0.5"], "p and per are of jitter: set concentration, angle or shift above 0"),
        (["stain.per=tile"], "p and per are of jitter"),
        (["stain.mode=normalize", "stain.per=tile"], "p and per are of jitter"),
        ([*HED, "stain.per=crop"], "stain.per: Input should be 'view' or 'tile'"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("smoke", overrides)


def test_white_stays_plausible_and_units_are_natural() -> None:
    """hi-ml pull request 643: a shift of .05 in scikit-image's units, of ln(1e6), is .69 in optical density
    and turns white to colour; ahcore issue 11: glass, of no stain, is changed by the same formula."""
    numbers = np.random.default_rng(0).uniform(-1, 1, (500, 6))
    glass = np.full((8, 8, 3), 240, np.uint8)
    matrices = stain.hed(500, Jitter(0.05, shift=0.05), numbers)
    light = np.stack([reference.apply(glass, matrix)[0, 0] for matrix in matrices]).astype(int)
    assert light.min() >= 240 * np.exp(-0.05 * 2.4) - 2  # three stains of unit length, 1.7 at most a channel
    assert np.ptp(light, axis=1).max() < 20
    far = np.stack([reference.apply(glass, stain.hed(1, Jitter(0.05, shift=0.69), row[None])[0])[0, 0]
                    for row in numbers])  # fmt: skip
    assert far.min() < 100  # what the mistake would do
    cpu = macenko_cpu.apply(np.tile(glass, (500, 1, 1, 1)), matrices)
    assert np.abs(cpu[:, 0, 0].astype(int) - light).max() <= 1


def test_the_third_stain_is_jittered_too() -> None:
    """hi-ml pull request 179 calls that a mistake; Tellez et al. 2018 have three channels, as here."""
    numbers = np.zeros((1, 6))
    numbers[0, 5] = 1.0
    (matrix,) = stain.hed(1, Jitter(0.05, shift=0.05), numbers)
    dab = np.array([0.27, 0.57, 0.78]) / np.linalg.norm([0.27, 0.57, 0.78])
    np.testing.assert_allclose(matrix[:, 3], 0.05 * dab, atol=1e-12)
    np.testing.assert_allclose(matrix[:, :3], np.eye(3), atol=1e-12)
