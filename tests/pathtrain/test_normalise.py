"""Inference sees the tiles that the model was trained on: runs, exports, datasets of every kind, folders."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import simplejpeg
import timm
import torch
from PIL import Image
from slides import tissue
from toys import write_run

from pathprep import stain
from pathprep.shards import Dataset
from pathtrain.data.tiles import DatasetTiles, batches, open_tiles, resize
from pathtrain.embed import embed
from pathtrain.encode import How, encode
from pathtrain.errors import ModelError
from pathtrain.evaluate.collapse import collapse
from pathtrain.evaluate.knn import knn
from pathtrain.export import export
from pathtrain.models.load import load, untrained
from pathtrain.recipes.load import dump
from pathtrain.recipes.load import load as load_recipe
from pathtrain.target import RunTarget, of_run

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
    index = [(name, row) for name in tiles.groups for row in tiles.dataset.index(name).to_pylist()]
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
    (run / "target.json").write_text(json.dumps({**values, "name": "another name"}))
    assert load(run).fingerprint == before
    (run / "target.json").write_text(json.dumps({**values, "max_c": [1.0, 1.0]}))
    assert load(run).fingerprint != before
    assert embed(run, dataset, tmp_path / "features").kept == 0


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
    with pytest.raises(ModelError, match=r"target.json: gone or damaged, and the run normalises"):
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
    normalising: Make, target: stain.Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = normalising(target), picture_folder(tmp_path / "pictures")
    values = json.loads((run / "target.json").read_text()) | {"keep": "any", "beta": 0.3, "alpha": 2.0}
    (run / "target.json").write_text(json.dumps(values))
    tiles = open_tiles(folder, load(run).target)
    (shown,) = batches(tiles, np.arange(8), size=48, batch=8, threads=2)
    for number, pixels in enumerate(shown):
        stored = np.asarray(Image.open(folder / f"{number}.png"))
        fits = stain.fit([stored], keep="any", beta=0.3, alpha=2.0)
        assert np.array_equal(pixels, stain.apply([stored], stain.matrix(fits, target))[0])
        assert np.array_equal(pixels, stored) == (number >= 6)
    embed(run, folder, tmp_path / "features")
    assert f"embed: {folder}: stain fitted on 6 tiles, 2 left as they are\n" in capsys.readouterr().err


def test_evaluations_normalise_and_say_so(
    normalising: Make, stained: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = load(normalising()), picture_folder(tmp_path / "pictures")
    result = knn(model, folder, k=3)
    assert "stain fitted on 6 tiles, 2 left as they are" in capsys.readouterr().err
    assert result["model"]["target"]["name"] == "reference"
    # tiles without stored fits are fitted too, each alone; those with are not
    collapse(model, stained("none"), k=3)
    counts: Counter[str] = Counter()
    for marker in Dataset(stained("fit")).markers.values():
        counts.update(marker["stain"])
    left = counts["slide_fit"] + counts["unfitted"]
    assert f"stain fitted on {counts['fitted']} tiles, {left} left" in capsys.readouterr().err
    collapse(model, stained("fit"), k=3)
    assert "stain fitted" not in capsys.readouterr().err


def test_random_weights_see_the_same_tiles(normalising: Make) -> None:
    model = load(normalising())
    assert untrained(model).target == model.target is not None


def test_baked_tiles_are_not_normalised_again(
    normalising: Make, stained: Make, target: stain.Target, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(normalising(target))
    assert open_tiles(stained("bake", target), model.target).normaliser is None
    assert capsys.readouterr().err == ""
    assert open_tiles(stained("bake"), model.target).normaliser is None
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {stained('bake')}: its tiles were normalised to another target")
    assert warning.count("\n") == 1


def test_tiles_opened_for_another_model_are_refused(normalising: Make, stained: Make) -> None:
    with pytest.raises(ValueError, match="another stain target"):
        encode([load(normalising())], open_tiles(stained("fit")), np.arange(2), How())


def test_fit_options_come_with_the_target(stained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(stained("fit"))
    for key, value in (("keep", "any"), ("alpha", 2.0), ("beta", 0.2), ("io", 250.0)):
        monkeypatch.setitem(dataset.params["stain"], key, value)
    found = RunTarget.of(stain.Target.default(), dataset)
    assert (found.keep, found.alpha, found.beta, found.io) == ("any", 2.0, 0.2, 250.0)
    assert RunTarget.model_validate(json.loads(json.dumps(found.as_dict()))) == found
