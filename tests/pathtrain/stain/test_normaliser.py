"""Inference sees the tiles that the model was trained on: runs, exports, datasets of every kind, folders."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import simplejpeg
import timm
import torch
from helpers.slides import tissue
from helpers.toys import TINY, write_run
from PIL import Image

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.params.stain import StainParams
from pathprep.params.tile_set import TileParams
from pathprep.storage.seals import write_sealed
from pathprep.tilesets.find import find
from pathprep.tilesets.run import import_tiles
from pathtrain.data.tile_batches import batches
from pathtrain.data.whole_tiles import DatasetTiles, open_tiles
from pathtrain.errors import ModelError
from pathtrain.evaluate.tile_level.collapse import collapse
from pathtrain.evaluate.tile_level.knn import knn
from pathtrain.features.embed import embed
from pathtrain.features.encode import encode
from pathtrain.images import resize
from pathtrain.params.encoding import How
from pathtrain.recipes.load import dump
from pathtrain.recipes.load import load as load_recipe
from pathtrain.runs.export import export
from pathtrain.runs.opening import load
from pathtrain.runs.variants import untrained
from pathtrain.stain.target import ModelTarget, of_run
from pathtrain.training.pretrain import pretrain

Make = Callable[..., Path]


def features(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            found[path.stem] = file["features"][:]
    return found


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_dataset_of_fits_is_normalised_to_the_runs_target(
    normalising: Make, stained: Make, target: stain.Target
) -> None:
    """The pixels before the network: stored fits, the run's target, then the resize."""
    model = load(normalising(target, "stain.concentration=0.3"))  # jitter is for training only
    tiles = open_tiles(stained("fit"), model.target)
    assert isinstance(tiles, DatasetTiles)
    order = np.arange(len(tiles))[::-1]
    shown = np.concatenate(list(batches(tiles, order, size=32, batch=5, threads=2)))
    index = [(name, row) for name in tiles.groups for row in tiles.dataset.table(name).to_pylist()]
    left = 0
    for pixels, tile in zip(shown, order, strict=True):
        stored = simplejpeg.decode_jpeg(tiles.read(int(tile)), colorspace="RGB")
        row = index[tile][1]
        if row["he"] is None:
            expected, left = stored, left + 1
        else:
            he, max_c = np.reshape(row["he"], (1, 3, 2)), np.array([row["max_c"]])
            found = stain.StainFit(he, max_c, np.zeros(1, np.int64), np.zeros(1, np.uint8))
            (expected,) = stain.apply([stored], stain.matrix(found, target))
        assert np.array_equal(pixels, resize(expected, 32))
    assert 0 < left < len(order)


def test_a_run_and_its_export_give_the_same_features(
    normalising: Make, stained: Make, target: stain.Target, tmp_path: Path
) -> None:
    run, dataset = normalising(target), stained("fit")
    export(run, tmp_path / "model")
    assert (
        load(tmp_path / "model").target == load(run).target == of_run(run, load_recipe(run / "recipe.yaml"))
    )
    embed(run, dataset, tmp_path / "a")
    embed(tmp_path / "model", dataset, tmp_path / "b")
    assert equal(features(tmp_path / "a"), features(tmp_path / "b"))
    assert embed(tmp_path / "model", dataset, tmp_path / "a").kept == len(Dataset(dataset).slides)
    plain = write_run(tmp_path / "plain", dataset)
    embed(plain, dataset, tmp_path / "c")
    with_, without = features(tmp_path / "a"), features(tmp_path / "c")
    assert not np.allclose(with_["dark"], without["dark"], atol=1e-3)
    assert np.array_equal(with_["flat"], without["flat"])  # no fit: as it is


def test_another_target_is_another_model(normalising: Make, stained: Make, tmp_path: Path) -> None:
    """Features of the old target must not be kept; the target's name alone changes nothing."""
    run, dataset = normalising(), stained("fit")
    embed(run, dataset, tmp_path / "features")
    before = load(run).fingerprint
    values = json.loads((run / "target.json").read_text())
    write_sealed(run / "target.json", {**values, "name": "another name"})
    assert load(run).fingerprint == before
    write_sealed(run / "target.json", {**values, "max_c": [1.0, 1.0]})
    assert load(run).fingerprint != before
    with pytest.raises(UsageError, match="features of another model"):
        embed(run, dataset, tmp_path / "features")
    assert embed(run, dataset, tmp_path / "features", replace=True).kept == 0


@pytest.mark.parametrize(
    "overrides",
    [[], ["stain.mode=jitter", "stain.concentration=0.2", "stain.angle=3"]],
    ids=["none", "jitter"],
)
def test_other_modes_take_tiles_as_they_are(stained: Make, tmp_path: Path, overrides: list[str]) -> None:
    run = write_run(tmp_path / "run", stained("fit"))
    fingerprint = load(run).fingerprint
    (run / "recipe.yaml").write_text(dump(load_recipe(run / "recipe.yaml", overrides)))
    model = load(run)
    assert (model.target, model.fingerprint) == (None, fingerprint)
    assert open_tiles(stained("fit"), model.target).normaliser is None


def test_timm_still_opens_the_export(normalising: Make, tmp_path: Path) -> None:
    run = normalising()
    export(run, tmp_path / "model")
    encoder = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(encoder(images), load(run).module(images))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["target"]["name"] == "reference"


def test_the_cards_code_normalises_as_embed_does(
    normalising: Make, target: stain.Target, tmp_path: Path
) -> None:
    run = normalising(target)
    export(run, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| Stain | normalised (Macenko) to other |" in card
    code = card.split("```python")[2].split("```")[0]
    given = tissue(64, 64, seed=8)
    names: dict[str, object] = {"tile": given}
    exec(code, names)
    expected = stain.normalize([given], target=target)[0]
    assert np.array_equal(names["tile"], expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"he": [[1, 2]]}, {"max_c": [1, -1]}, {"io": 0}, {"he": "x"}, {"format": "other"}, {"extra": 1}],
)
def test_damaged_targets(normalising: Make, tmp_path: Path, change: dict[str, object]) -> None:
    run = normalising()
    export(run, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["target"] |= change
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path / "model")
    (run / "target.json").write_text(json.dumps(json.loads((run / "target.json").read_text()) | change))
    with pytest.raises(ModelError, match=r"target.json: gone or damaged"):
        load(run)


def test_a_lost_target_is_not_passed_over(normalising: Make) -> None:
    run = normalising()
    (run / "target.json").unlink()
    with pytest.raises(ModelError, match=r"target.json: gone or damaged, and the run's tiles were"):
        load(run)


def test_the_runs_file_serves_shard(normalising: Make, target: stain.Target) -> None:
    found = stain.Target.load(normalising(target) / "target.json")
    assert np.array_equal(found.he, target.he)
    assert np.array_equal(found.max_c, target.max_c)


def picture_folder(path: Path) -> Path:
    """Six pictures with tissue, two without."""
    path.mkdir()
    lines = ["file,label,group"]
    for number in range(8):
        pixels = tissue(48, 48, seed=number) if number < 6 else np.full((48, 48, 3), 240, np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")
        lines.append(f"{number}.png,{'xy'[number % 2]},g{number}")
    (path / "labels.csv").write_text("\n".join(lines))
    return path


def test_pictures_are_fitted_as_the_training_data_was(
    normalising: Make, target: stain.Target, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, folder = normalising(target), picture_folder(tmp_path / "pictures")
    values = json.loads((run / "target.json").read_text()) | {"keep": "any", "beta": 0.3, "alpha": 2.0}
    write_sealed(run / "target.json", values)
    tiles = open_tiles(folder, load(run).target)
    (shown,) = batches(tiles, np.arange(8), size=48, batch=8, threads=2)
    for number, pixels in enumerate(shown):
        stored = np.asarray(Image.open(folder / f"{number}.png"))
        fits = stain.fit([stored], keep="any", beta=0.3, alpha=2.0)
        assert np.array_equal(pixels, stain.apply([stored], stain.matrix(fits, target))[0])
        assert np.array_equal(pixels, stored) == (number >= 6)
    caplog.set_level(logging.INFO, "pathtrain")
    embed(run, folder, tmp_path / "features")
    assert f"embed: {folder}: stain fitted on 6 tiles, 2 left as they are\n" in caplog.text


def test_evaluations_normalise_and_say_so(
    normalising: Make, stained: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, folder = load(normalising()), picture_folder(tmp_path / "pictures")
    caplog.set_level(logging.INFO, "pathtrain")
    result = knn(model, folder, k=3)
    assert "stain fitted on 6 tiles, 2 left as they are" in caplog.text
    assert result["model"]["target"]["name"] == "reference"
    # tiles without stored fits are fitted too; those with are not
    collapse(model, stained("none"), k=3)
    counts = counted(stained("fit"))
    said = caplog.text
    caplog.clear()
    assert f"stain fitted on {counts['fitted']} tiles, {counts['slide_fit']} took their slide's fit" in said
    assert f", {counts['unfitted']} left as they are" in said
    collapse(model, stained("fit"), k=3)
    assert "stain fitted" not in caplog.text


def test_random_weights_see_the_same_tiles(normalising: Make) -> None:
    model = load(normalising())
    assert untrained(model).target == model.target is not None


def test_baked_tiles_are_not_normalised_again(normalising: Make, stained: Make, target: stain.Target) -> None:
    assert open_tiles(stained("bake", target), load(normalising(target)).target).normaliser is None


def shown(path: Path, goal: ModelTarget | None) -> tuple[np.ndarray, dict[str, int]]:
    """Pixels of all tiles of a dataset as a model with this target sees them, and their statuses.

    In the order of their places, or sources: tiles that take the slide's fit are stored last.
    """
    tiles = open_tiles(path, goal)
    assert isinstance(tiles, DatasetTiles)
    if tiles.labels is None:
        order = np.lexsort((tiles.coords[:, 0], tiles.coords[:, 1], tiles.slide))
    else:
        order = np.argsort(tiles.sources)
    pixels = np.concatenate(list(batches(tiles, order, size=64, batch=50, threads=2)))
    return pixels, tiles.normaliser.statuses if tiles.normaliser else {}


def counted(path: Path) -> Counter[str]:
    """Statuses that a dataset's markers tell of."""
    counts: Counter[str] = Counter()
    for marker in Dataset(path).markers.values():
        counts.update(marker.stain)
    return counts


def test_tiles_baked_to_another_target_are_normalised_from_there(
    normalising: Make, stained: Make, target: stain.Target
) -> None:
    """From the other target's stains to the model's is the straight way, up to two JPEGs and clipping."""
    goal = load(normalising(target)).target
    found, statuses = shown(stained("bake"), goal)
    direct, _ = shown(stained("bake", target), goal)
    before, _ = shown(stained("bake"), None)
    assert np.abs(found.astype(int) - direct).mean() < 2
    assert np.abs(before.astype(int) - direct).mean() > 8
    assert statuses == counted(stained("bake"))


def test_plain_datasets_are_normalised_as_bake_does(
    normalising: Make, stained: Make, target: stain.Target
) -> None:
    """Fitted per tile, with the slide's pooled fit where that fails; pictures of one colour stay."""
    found, statuses = shown(stained("none"), load(normalising(target)).target)
    baked, _ = shown(stained("bake", target), None)
    # JPEG noise moves a fit, and the baked tiles went through another JPEG
    assert np.abs(found.astype(int) - baked).mean() < 2
    assert statuses == counted(stained("fit"))
    assert statuses["slide_fit"] > 0
    assert statuses["unfitted"] > 0


@pytest.mark.parametrize("mode", ["none", "jitter"])
def test_a_run_on_baked_tiles_carries_their_target(
    stained: Make, target: stain.Target, tmp_path: Path, mode: str
) -> None:
    """It sees plain tiles as it was trained: normalised; and so does its export."""
    dataset = stained("bake", target)
    more = ["stain.mode=jitter", "stain.concentration=0.1"] if mode == "jitter" else []
    recipe = load_recipe("smoke", [*TINY, "steps=1", "batch=2", "checkpoint.every=1", *more])
    pretrain(dataset, recipe, tmp_path / "run")
    model = load(tmp_path / "run")
    assert model.target is not None
    assert model.target.target.as_params() == target.as_params()
    assert open_tiles(dataset, model.target).normaliser is None
    plain, _ = shown(stained("none"), model.target)
    baked, _ = shown(dataset, model.target)
    assert np.abs(plain.astype(int) - baked).mean() < 2
    export(tmp_path / "run", tmp_path / "model")
    assert load(tmp_path / "model").target == model.target
    (tmp_path / "run" / "target.json").unlink()
    with pytest.raises(ModelError, match=r"target.json: gone or damaged"):
        load(tmp_path / "run")


def test_a_run_on_plain_tiles_carries_none(stained: Make, tmp_path: Path) -> None:
    recipe = load_recipe("smoke", [*TINY, "steps=1", "batch=2", "checkpoint.every=1"])
    pretrain(stained("fit"), recipe, tmp_path / "run")
    assert load(tmp_path / "run").target is None
    assert not (tmp_path / "run" / "target.json").exists()


def test_imported_tiles_fall_back_to_their_group(
    normalising: Make, target: stain.Target, tmp_path: Path
) -> None:
    """As the import does when it bakes: by group, else by shard."""
    folder = tmp_path / "source"
    folder.mkdir()
    rows = ["file,label,group"]
    for group, power in (("a", 1.0), ("b", 1.8)):
        for number in range(4):
            pixels = (255 * (tissue(64, 64, seed=number) / 255.0) ** power).astype(np.uint8)
            if number == 3:
                pixels[:] = (205, 120, 180)
            Image.fromarray(pixels).save(folder / f"{group}{number}.png")
            rows.append(f"{group}{number}.png,{'xy'[number % 2]},{group}")
    (folder / "labels.csv").write_text("\n".join(rows))
    made = {
        mode: _imported(folder, tmp_path / mode, StainParams(mode, target=target))
        for mode in ("none", "bake")
    }
    found, statuses = shown(made["none"], load(normalising(target)).target)
    baked, _ = shown(made["bake"], None)
    assert statuses == {"fitted": 6, "slide_fit": 2}
    apart = np.abs(found.astype(int) - baked).mean(axis=(1, 2, 3))
    assert np.median(apart) < 3  # JPEG noise can move the fit of a single tile
    assert apart[[3, 7]].max() < 3
    assert np.abs(found[3].astype(int) - found[7]).mean() > 8  # each by its own group


def _imported(folder: Path, root: Path, settings: StainParams) -> Path:
    import_tiles(find(folder), root, TileParams(stain=settings))
    return root


def test_tiles_opened_for_another_model_are_refused(normalising: Make, stained: Make) -> None:
    with pytest.raises(ValueError, match="another stain target"):
        encode([load(normalising())], open_tiles(stained("fit")), np.arange(2), How())


def test_fit_options_come_with_the_target(stained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(stained("fit"))
    for key, value in (("keep", "any"), ("alpha", 2.0), ("beta", 0.2), ("io", 250.0)):
        monkeypatch.setitem(dataset.params["stain"], key, value)
    found = ModelTarget.of(stain.Target.default(), dataset)
    assert (found.keep, found.alpha, found.beta, found.io) == ("any", 2.0, 0.2, 250.0)
    assert ModelTarget.model_validate(json.loads(json.dumps(found.as_dict()))) == found
