"""The three panels of the collapse study: hand-made changes, the same tiles, wrong pairs, the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.toys import noise, write_dataset, write_run
from PIL import Image
from typer.testing import CliRunner

from pathprep import stain
from pathprep.errors import UsageError
from pathtrain.cli import evaluations as app
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.evaluate.papers.collapse_panels import change, common, measured, panels, verdict
from pathtrain.evaluate.tile_level.collapse import Sample, choose, measure
from pathtrain.params.evaluation import CollapseParams
from pathtrain.runs.opening import load

Make = Callable[..., Path]


def sample(apart: float) -> Sample:
    """Five slides of 40 tiles; slide s lies ``apart`` along axis s."""
    slide = np.repeat(np.arange(5), 40)
    features = np.random.default_rng(0).normal(size=(200, 8)) + apart * np.eye(8)[slide]
    return Sample(features.astype(np.float32), slide, [f"s{number}" for number in range(5)])


def test_changes_and_verdict_of_hand_made_panels() -> None:
    found = [measure(sample(apart), k=10, seed=0) for apart in (20, 2, 0)]
    steps = {"a to b": (0, 1), "b to c": (1, 2), "a to c": (0, 2)}
    falling = {name: change(found[i], found[j], 0) for name, (i, j) in steps.items()}
    for name, (i, j) in steps.items():
        for figure in ("own_share", "excess", "ratio", "silhouette"):
            assert falling[name][figure] == pytest.approx(found[j][figure] - found[i][figure])
            low, high = falling[name][f"{figure}_interval"]
            assert low <= falling[name][figure] <= high < 0
    said = verdict(falling)
    assert "slides mix more from a to b to c) holds" in said
    assert "own share from a to b, silhouette from a to b" in said
    assert "Rises" not in said
    rising = {name: change(found[j], found[i], 0) for name, (i, j) in steps.items()}
    said = verdict(rising)
    assert "does not hold" in said
    assert "Falls beyond their interval: none." in said
    assert "Rises beyond their interval: own share from a to b" in said
    still = {name: change(found[0], found[0], 0) for name in steps}
    assert still["a to c"]["own_share_interval"] == [0.0, 0.0]
    assert "does not hold" in verdict(still)


def test_silhouette_of_mixed_slides_is_that_of_chance() -> None:
    found = measure(sample(0), k=10, seed=0)
    low, high = found["silhouette_interval"]
    assert low <= found["silhouette_chance"] <= high
    assert abs(found["silhouette"] - found["silhouette_chance"]) < 0.02
    apart = measure(sample(20), k=10, seed=0)
    assert apart["silhouette_interval"][0] > apart["silhouette_chance"] + 0.5


def test_slides_with_enough_tiles_come_first() -> None:
    counts = {"a": 50, "b": 900, "c": 1, "d": 30, "e": 800, "f": 700}
    assert choose(counts, None, 100, seed=0) == ["a", "b", "d", "e", "f"]
    assert choose(counts, 4, 100, seed=0) == ["a", "b", "e", "f"]
    drawn = {tuple(choose(counts, 2, 100, seed)) for seed in range(20)}
    assert drawn == {("b", "e"), ("b", "f"), ("e", "f")}


@pytest.fixture
def datasets(tmp_path: Path) -> tuple[Path, Path]:
    """Three slides in both; in the second, one has fewer tiles, and there is another one."""
    plain = {name: noise(20, seed=seed) for seed, name in enumerate("abc")}
    return (
        write_dataset(tmp_path / "plain", plain),
        write_dataset(tmp_path / "other", {**plain, "b": plain["b"][:12], "d": noise(20)}),
    )


def test_the_same_tiles_are_taken_from_both(datasets: tuple[Path, Path]) -> None:
    one, other = (DatasetTiles(path) for path in datasets)
    (first, second), slide, names = common(one, other, slides=10, per_slide=15, seed=0)
    assert names == ["a", "b", "c"]
    assert np.bincount(slide).tolist() == [15, 12, 15]
    assert len(set(first.tolist())) == len(first)
    assert (one.coords[first] == other.coords[second]).all()
    for rows, tiles in ((first, one), (second, other)):
        assert [tiles.groups[number] for number in tiles.group[rows]] == [names[number] for number in slide]
    again, _, _ = common(one, other, slides=10, per_slide=15, seed=1)
    assert set(again[0].tolist()) != set(first.tolist())


def test_nothing_in_common(datasets: tuple[Path, Path], tmp_path: Path) -> None:
    foreign = DatasetTiles(write_dataset(tmp_path / "foreign", {"x": noise(3), "a": noise(3)}))
    with pytest.raises(UsageError, match="have 1 slides with at least 2 tiles in common"):
        common(DatasetTiles(datasets[0]), foreign, slides=10, per_slide=5, seed=0)


@pytest.mark.parametrize("mode", ["bake", "fit", "none"])
def test_normalised_tiles_come_from_any_kind_of_dataset(
    normalising: Make, stained: Make, target: stain.Target, tmp_path: Path, mode: str
) -> None:
    plain = load(write_run(tmp_path / "plain", stained("none")))
    model = load(normalising(target))
    dataset = stained(mode, target) if mode == "bake" else stained(mode)
    result, samples = measured((plain, stained("none")), (model, dataset), CollapseParams(k=5))
    a, b, c = result["panels"]
    assert [panel["panel"] for panel in result["panels"]] == ["a", "b", "c"]
    assert (a["model"]["target"], b["model"]["target"]) == (None, c["model"]["target"])
    assert a["model"]["name"] == b["model"]["name"] == "plain"
    # write_run gives both models the same weights, so b is c, and a differs by the tiles alone
    assert np.array_equal(samples[1].features, samples[2].features)
    assert not np.allclose(samples[0].features, samples[1].features, atol=1e-3)
    assert result["changes"]["b to c"]["own_share"] == 0
    assert result["random_seed"] == 1  # both runs began with random weights of seed 0
    assert [row["title"] for row in result["baselines"]] == [
        "random weights, plain tiles",
        "colour, plain tiles",
        "random weights, normalised tiles",
        "colour, normalised tiles",
    ]
    json.dumps(result)


def test_models_and_datasets_that_do_not_fit(
    normalising: Make, stained: Make, target: stain.Target, tmp_path: Path
) -> None:
    plain, model = load(write_run(tmp_path / "plain", stained("none"))), load(normalising(target))
    raw, baked = stained("none"), stained("bake", target)
    with pytest.raises(UsageError, match="cannot be the model of `plain`"):
        panels((model, raw), (model, baked))
    with pytest.raises(UsageError, match="cannot be the model of `normalised`"):
        panels((plain, raw), (plain, baked))
    with pytest.raises(UsageError, match="its tiles are normalised; `plain` needs plain ones"):
        panels((plain, baked), (model, baked))
    with pytest.raises(UsageError, match="`k` 5000: must be 1 to"):
        panels((plain, raw), (model, baked), k=5000)


def test_command(normalising: Make, stained: Make, target: stain.Target, tmp_path: Path) -> None:
    plain, model = write_run(tmp_path / "plain", stained("none")), normalising(target)
    pairs = ["--plain", plain, stained("none"), "--normalised", model, stained("bake", target)]
    options = ["--k", "5", "--tsne-tiles", "10", "--tiles-per-slide", "12"]
    done = CliRunner().invoke(app, ["collapse", *map(str, pairs), *options], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert "The paper's order" in done.stdout
    assert "…" not in done.stdout  # nothing is cut off on a usual terminal
    saved = json.loads((model / "evaluation" / "collapse-panels.json").read_text())
    assert saved["slides"] == 4
    with Image.open(model / "evaluation" / "collapse-panels.png") as picture:
        assert picture.width > 2 * picture.height
    for wrong, message in (
        ([], "give a MODEL, or --plain"),
        ([plain, "--plain", plain, plain, "--normalised", model, model], "not both"),
        (["--plain", plain, plain], "belong together"),
    ):
        failed = CliRunner().invoke(app, ["collapse", *map(str, wrong)])
        assert isinstance(failed.exception, UsageError)
        assert message in str(failed.exception)
