import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

from pathprep import stain
from pathprep.dataset.schema import STATUSES
from pathprep.errors import StainError, UsageError
from pathprep.sharding import fit_target
from pathprep.stain import StainFit, Status, Target

Tile = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def paint(size: int, he: Floats, seed: int) -> Tile:
    """A tile of two stains with the vectors ``he`` (3, 2) and a third of glass."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma([0.8, 2.0], [0.7, 0.35], (size * size, 2))
    amounts[: size * size // 20, 1] *= 0.02
    amounts[-size * size // 20 :, 0] *= 0.02
    amounts[rng.random(size * size) < 0.3] *= 0.01
    grey = 240 * np.exp(-amounts @ (he / np.linalg.norm(he, axis=0)).T) + rng.normal(0, 1, (size * size, 3))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8).reshape(size, size, 3)


HE = np.array([[0.65, 0.25], [0.70, 0.85], [0.30, 0.46]])
OTHER = np.array([[0.55, 0.10], [0.75, 0.90], [0.45, 0.30]])
WHITE = np.full((80, 80, 3), 245, np.uint8)


@pytest.fixture(scope="module")
def tiles() -> Tile:
    """Five tiles of 80 px of one staining; the fourth is glass."""
    painted = [paint(80, HE, seed) for seed in range(4)]
    return np.stack([*painted[:3], WHITE, painted[3]])


def test_statuses_are_named_as_the_dataset_names_them() -> None:
    assert STATUSES[: len(Status)] == tuple(status.name.lower() for status in Status)


def test_fit_shapes_and_statuses(tiles: Tile) -> None:
    fits = stain.fit(tiles)
    assert (fits.he.shape, fits.max_c.shape, fits.tissue_pixels.shape) == ((5, 3, 2), (5, 2), (5,))
    assert (fits.he.dtype, fits.tissue_pixels.dtype, fits.status.dtype) == (np.float64, np.int64, np.uint8)
    assert fits.status.tolist() == [0, 0, 0, 2, 0]
    assert len(fits) == 5
    np.testing.assert_allclose(np.linalg.norm(fits.he[fits.status == 0], axis=1), 1)
    assert fits.tissue_pixels[3] == 0


def test_tiles_of_differing_sizes(tiles: Tile) -> None:
    ragged = [tiles[0], tiles[1][:50, :70], tiles[3][:1, :1], tiles[2][:33]]
    fits = stain.fit(ragged)
    assert fits.status.tolist() == [0, 0, 2, 0]
    normal = stain.normalize(ragged)
    assert [tile.shape for tile in normal] == [tile.shape for tile in ragged]
    for i, tile in enumerate(ragged):
        alone = stain.fit(np.ascontiguousarray(tile)[None])
        np.testing.assert_array_equal(fits.he[i], alone.he[0])
        np.testing.assert_array_equal(normal[i], stain.normalize(np.ascontiguousarray(tile)[None])[0])


def test_normalize_equals_torchstain(tiles: Tile) -> None:
    ours = stain.normalize(tiles)
    for i in (0, 1, 2, 4):
        theirs, _, _ = NumpyMacenkoNormalizer().normalize(tiles[i], stains=False)
        difference = np.abs(ours[i].astype(int) - theirs)
        assert difference.max() <= 2
        assert (difference <= 1).mean() >= 0.9999


def test_normalize_is_fit_matrix_apply_to_the_bit(tiles: Tile) -> None:
    expected = stain.apply(tiles, stain.matrix(stain.fit(tiles), Target.default()))
    np.testing.assert_array_equal(stain.normalize(tiles), expected)
    for one, other in zip(stain.normalize(list(tiles)), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_normalize_takes_the_light(tiles: Tile) -> None:
    fits = stain.fit(tiles, io=250)
    expected = stain.apply(tiles, stain.matrix(fits, Target.default()), io=250)
    assert (expected != stain.normalize(tiles)).any()
    np.testing.assert_array_equal(stain.normalize(tiles, io=250), expected)
    np.testing.assert_array_equal(stain.normalize(tiles, fits, io=250), expected)
    np.testing.assert_array_equal(stain.normalize(list(tiles), io=250), expected)
    with pytest.raises(ValueError, match="io is 0"):
        stain.normalize(tiles, io=0)


def test_normalize_brings_two_stainings_together() -> None:
    one, two = paint(96, HE, 1), paint(96, OTHER, 1)
    before = np.abs(one.mean(axis=(0, 1)) - two.mean(axis=(0, 1))).max()
    a, b = stain.normalize(np.stack([one, two]), target=Target.fit(one))
    assert np.abs(a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))).max() < before / 4


def test_unfitted_tiles_come_back_unchanged(tiles: Tile) -> None:
    fits = stain.fit(tiles)
    np.testing.assert_array_equal(stain.matrix(fits, Target.default())[3], np.eye(3))
    np.testing.assert_array_equal(stain.normalize(tiles)[3], tiles[3])
    assert (stain.normalize(tiles)[0] != tiles[0]).any()


def test_pool_is_the_median_in_any_order(tiles: Tile) -> None:
    fits = stain.fit(tiles)
    pooled = stain.pool(fits)
    assert pooled.status.tolist() == [Status.FITTED]
    assert pooled.tissue_pixels[0] == fits.tissue_pixels.sum()
    np.testing.assert_allclose(np.linalg.norm(pooled.he[0], axis=0), 1)
    np.testing.assert_array_equal(pooled.max_c[0], np.median(fits.max_c[fits.status == 0], axis=0))
    for order in ([4, 3, 2, 1, 0], [2, 0, 3, 4, 1]):
        again = stain.pool(
            StainFit(fits.he[order], fits.max_c[order], fits.tissue_pixels[order], fits.status[order])
        )
        np.testing.assert_array_equal(again.he, pooled.he)
        np.testing.assert_array_equal(again.max_c, pooled.max_c)
        np.testing.assert_array_equal(again.tissue_pixels, pooled.tissue_pixels)


def test_pool_of_nothing_is_unfitted() -> None:
    for tiles in (WHITE[None], np.empty((0, 8, 8, 3), np.uint8), []):
        pooled = stain.pool(stain.fit(tiles))
        assert pooled.status.tolist() == [Status.UNFITTED]
        assert pooled.tissue_pixels.tolist() == [0]
        assert not pooled.he.any()


def test_unfitted_tiles_fall_back_on_the_slide(tiles: Tile) -> None:
    fits = stain.fit(tiles)
    pooled = stain.pool(fits)
    filled = stain.fall_back(fits, pooled)
    assert filled.status.tolist() == [0, 0, 0, 1, 0]
    np.testing.assert_array_equal(filled.he[3], pooled.he[0])
    np.testing.assert_array_equal(filled.max_c[3], pooled.max_c[0])
    np.testing.assert_array_equal(filled.he[[0, 1, 2, 4]], fits.he[[0, 1, 2, 4]])
    assert filled.tissue_pixels[3] == 0
    np.testing.assert_array_equal(
        stain.matrix(filled, Target.default())[3], stain.matrix(pooled, Target.default())[0]
    )
    # A slide fit is not a tile's own: it stays out of a later pooling.
    np.testing.assert_array_equal(stain.pool(filled).he, pooled.he)


def test_fall_back_without_a_slide_fit_changes_nothing() -> None:
    fits = stain.fit(WHITE[None])
    assert stain.fall_back(fits, stain.pool(fits)).status.tolist() == [Status.UNFITTED]


def test_matrix_takes_the_tiles_stains_to_the_targets(tiles: Tile) -> None:
    fits = stain.fit(tiles[:1])
    target = Target.default()
    (matrix,) = stain.matrix(fits, target)
    np.testing.assert_allclose(matrix @ (fits.he[0] * fits.max_c[0]), target.he * target.max_c, atol=1e-12)


def test_threads_change_no_bit(tiles: Tile) -> None:
    expected = stain.normalize(tiles)
    with ThreadPoolExecutor(4) as pool:
        for i, result in enumerate(pool.map(lambda k: stain.normalize(tiles[k % 5][None]), range(40))):
            np.testing.assert_array_equal(result[0], expected[i % 5])


def test_target_survives_saving(tmp_path: Path, tiles: Tile) -> None:
    target = Target.fit(tiles[0], name="slide 7")
    target.save(tmp_path / "target.json")
    loaded = Target.load(tmp_path / "target.json")
    assert loaded.name == "slide 7"
    np.testing.assert_array_equal(loaded.he, target.he)
    np.testing.assert_array_equal(loaded.max_c, target.max_c)
    assert json.loads(json.dumps(target.as_params())) == loaded.as_params()
    assert "name" not in target.as_params()


def test_target_of_an_image_without_stains() -> None:
    with pytest.raises(StainError, match=r"blank\.png: no pair of stains.*0 tissue pixels of 6400"):
        Target.fit(WHITE, name="blank.png")


GOOD = {"name": "a", "he": [[0.6, 0.2], [0.7, 0.8], [0.4, 0.5]], "max_c": [2.0, 1.0]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not a stain target"),
        ("[1, 2]", "not a stain target"),
        ("\udcff", "not a stain target"),
        (json.dumps({"name": "a"}), "not a stain target"),
        (json.dumps(GOOD | {"he": "red"}), "not a stain target"),
        (json.dumps(GOOD | {"he": [[1, 2], [3]]}), "not a stain target"),
        (json.dumps(GOOD | {"he": [[1, 2], [3, 4]]}), r"expected \(3, 2\)"),
        (json.dumps(GOOD | {"max_c": [0, 1]}), "max_c positive"),
        (json.dumps(GOOD | {"max_c": [float("nan"), 1]}), "finite"),
    ],
)
def test_bad_targets_name_the_file(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StainError, match=says) as raised:
        Target.load(path)
    assert str(path) in str(raised.value)


def test_missing_target(tmp_path: Path) -> None:
    with pytest.raises(StainError, match="No such file"):
        Target.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": "some"}, "keep is 'some'"),
        ({"alpha": 50}, "alpha is 50"),
        ({"alpha": -1}, "alpha"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"io": 0}, "io is 0"),
    ],
)
def test_bad_options(tiles: Tile, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stain.fit(tiles, **options)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3)),
        np.zeros((1, 4, 4), np.uint8),
        [np.zeros((0, 4, 3), np.uint8)],
    ],
)
def test_other_arrays_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected tiles"):
        stain.fit(wrong)


@pytest.mark.parametrize("shape", [(4097, 4097, 3), (1, 2**24 + 1, 3)])
def test_tiles_that_are_too_large_are_refused(shape: tuple[int, ...]) -> None:
    tile = np.broadcast_to(np.uint8(0), shape)
    for call in (stain.fit, stain.normalize, lambda tiles: stain.apply(tiles, np.eye(3)[None])):
        for tiles in (tile[None], [tile]):
            with pytest.raises(ValueError, match=rf"at most 16777216 pixels .*{shape[1]} x {shape[0]}"):
                call(tiles)


def test_a_picture_that_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_target, "MAX_PIXELS", 80 * 79)
    Image.fromarray(WHITE).save(tmp_path / "large.png")
    with pytest.raises(UsageError, match=r"large\.png: .*80 x 80 pixels; .* crop it"):
        fit_target.fit_picture(tmp_path / "large.png", fit_target.FitOptions())


@pytest.mark.parametrize("io", [0.0, -5.0, 257.0, float("nan")])
def test_apply_refuses_light_that_fit_refuses(tiles: Tile, io: float) -> None:
    with pytest.raises(ValueError, match="io is"):
        stain.apply(tiles, np.tile(np.eye(3), (5, 1, 1)), io=io)


def test_matrices_must_fit_the_tiles(tiles: Tile) -> None:
    with pytest.raises(ValueError, match="5 finite 3x3 or 3x4 matrices"):
        stain.apply(tiles, np.eye(3)[None])
    with pytest.raises(ValueError, match="finite"):
        stain.apply(tiles, np.full((5, 3, 3), np.nan))


@pytest.mark.realdata
def test_most_tiles_of_real_tissue_are_fitted(data: Path) -> None:
    from openslide import OpenSlide

    for path in sorted((data / "slides" / "monuseg").glob("*.tif")):
        with OpenSlide(path) as slide:
            field = np.array(slide.read_region((0, 0), 0, (1000, 1000)).convert("RGB"))
        tiles = [field[y : y + 250, x : x + 250] for y in range(0, 1000, 250) for x in range(0, 1000, 250)]
        fits = stain.fit(tiles)
        assert (fits.status == Status.FITTED).all()
        pooled = stain.pool(fits)
        cosines = (fits.he * pooled.he).sum(axis=1)
        assert np.degrees(np.arccos(np.clip(cosines, -1, 1))).max() < 25
