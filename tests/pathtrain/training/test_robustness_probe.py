"""The robustness index while training: as the evaluation's, in rows and the report."""

from pathlib import Path

import pytest
import torch
from helpers.toys import BLUE, PINK, TINY, noise, write_dataset
from PIL import Image

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathtrain.data.training_data import of
from pathtrain.evaluate.shifts.study import robustness
from pathtrain.recipes.load import dump, load
from pathtrain.recipes.recipe import Recipe
from pathtrain.reports import curves
from pathtrain.runs import opening
from pathtrain.training.logs import rows
from pathtrain.training.pretrain import pretrain
from pathtrain.training.probes.base import Setting
from pathtrain.training.probes.live import Probes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slides = {name: noise(9, 48, seed=n) for n, name in enumerate("abc")}
    return write_dataset(tmp_path_factory.mktemp("robust") / "dataset", slides)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients at two scanners, of two classes each."""
    folder = tmp_path_factory.mktemp("robust") / "tiles"
    folder.mkdir()
    lines = ["file,label,group,scanner"]
    for patient in range(8):
        for number, label in enumerate("xy"):
            for each, tile in enumerate(noise(3, colour=(PINK, BLUE)[number], seed=10 * patient + number)):
                Image.fromarray(tile).save(folder / f"{patient}{label}{each}.png")
                lines.append(f"{patient}{label}{each}.png,{label},p{patient},s{patient % 2}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def recipe(tiles: Path, *more: str) -> Recipe:
    probe = f"probes=[{{kind: robustness, every: 2, data: '{tiles}', by: scanner}}]"
    return load("smoke", [*TINY, "steps=3", "batch=6", probe, *more])


def test_figures_are_those_of_the_evaluation_and_stand_in_rows_and_report(
    dataset: Path, tiles: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    made = recipe(tiles, "probes.0.k=5")
    pretrain(dataset, made, run)
    logged = {row["step"]: row for row in rows(run)}
    assert [step for step, row in logged.items() if "robustness_index" in row] == [0, 2, 3]
    model = opening.load(run)
    expected = robustness(run, tiles, "scanner", measures="index,margin", k=5, baselines="colour", threads=1)
    own, colour = expected["results"]
    live = Probes(made, Setting(of(Dataset(dataset)), (), None, made.seed, torch.device("cpu"), 1))
    found = live(model.module.state_dict(), list(made.probes))
    assert found == {
        "robustness_index": pytest.approx(own["index"]),
        "robustness_index_chance": pytest.approx(own["index_chance"]),
        "robustness_index_colour": pytest.approx(colour["index"]),
        "robustness_balanced": pytest.approx(own["index_balanced"]),
        "robustness_fragile": pytest.approx(own["fragile"]),
    }
    assert logged[3]["robustness_index"] == pytest.approx(own["index"])
    read, _ = curves.read(run)
    assert [name for name, _ in curves.levels(read, "robustness_index")] == ["chance", "colour"]
    assert curves.title("robustness_index").startswith("Robustness index")
    assert curves.better("robustness_index") is max


def test_training_in_bfloat16_measures_in_float32(dataset: Path, tiles: Path) -> None:
    made = recipe(tiles, "probes.0.k=5")
    live = Probes(made, Setting(of(Dataset(dataset)), (), None, made.seed, torch.device("cpu"), 1))
    weights = live._model.module.state_dict()
    plain = live(weights, list(made.probes))
    with torch.autocast("cpu", torch.bfloat16):
        cast = live(weights, list(made.probes))
    assert cast == plain


def test_a_recipe_states_every_key_and_one_without_the_kind_is_read(tiles: Path) -> None:
    written = dump(recipe(tiles))
    for key in ("data", "by", "group", "columns", "names", "labels", "k", "tiles"):
        assert f"{key}:" in written.split("probes:")[1]
    assert load("smoke", [*TINY, "probes=[{kind: rank, every: 3}]"]).probes[0].kind == "rank"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("probes.0.by=centre", r"probes\.0 \(robustness\): .*nothing says the column 'centre'"),
        ("probes.0.k=43", r"probes\.0 \(robustness\): .*`k` 43: must be 1 to 42"),
        ("probes.0.by=label", r"probes\.0 \(robustness\): .*go together in every tile"),
        ("probes.0.data=/nowhere", r"probes\.0 \(robustness\): /nowhere: neither a dataset"),
    ],
)
def test_what_cannot_be_measured_is_said_before_training(
    wrong: str, message: str, dataset: Path, tiles: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        pretrain(dataset, recipe(tiles, wrong), tmp_path / "run")
