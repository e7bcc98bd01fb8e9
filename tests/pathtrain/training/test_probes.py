"""What is measured and shown while training: collapse score, figures of a row, Weights & Biases."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.toys import TINY, labelled_folder, noise, write_dataset
from helpers.training import logged, said_to

import pathprep
from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.mixed.make import mix
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.training_data import of
from pathtrain.errors import ModelError
from pathtrain.evaluate.tile_level.collapse import collapse
from pathtrain.evaluate.tile_level.knn import knn
from pathtrain.recipes.load import load
from pathtrain.recipes.probes import KnnProbe
from pathtrain.recipes.recipe import Recipe
from pathtrain.reports import page as report
from pathtrain.runs import checkpoint
from pathtrain.runs import opening as models
from pathtrain.training.held_out import hold_out
from pathtrain.training.logs import Log, Row, rows
from pathtrain.training.pretrain import pretrain
from pathtrain.training.probes.base import Setting, empty_model
from pathtrain.training.probes.collapse import FIGURES, LiveCollapse
from pathtrain.training.probes.knn import LiveKnn
from pathtrain.training.probes.live import Probes

SETTINGS = (
    *TINY,
    "steps=5",
    "batch=6",
    "log_every=3",
    "probes=[{kind: collapse, every: 2, slides: 2, tiles: 6}]",
)
CPU = torch.device("cpu")


def setting(dataset: Path) -> Setting:
    """For probes of a dataset, all of whose slides may be measured on."""
    return Setting(of(Dataset(dataset)), (), None, 0, CPU, 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    colours = {"a": (180, 90, 160), "b": (90, 60, 140), "c": (200, 150, 190), "d": (160, 80, 120)}
    slides = {name: noise(9, 48, colour, seed=n) for n, (name, colour) in enumerate(colours.items())}
    return write_dataset(tmp_path_factory.mktemp("live") / "dataset", slides)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live") / "run"
    pretrain(dataset, load("smoke", SETTINGS), folder)
    return folder


def test_rows(run: Path) -> None:
    logged = {row["step"]: row for row in rows(run)}
    assert sorted(logged) == [0, 2, 3, 4, 5]
    assert set(logged.pop(0)) == {"step", *(f"collapse_{name}" for name in FIGURES)}
    assert ["collapse_ratio" in logged[step] for step in (2, 3, 4, 5)] == [True, False, True, True]
    for row in logged.values():
        assert row["gradient_norm"] > 0
        assert row["teacher_entropy"] > 0
        assert row["mfu"] is None
        assert 0 <= row["data_wait"] <= 1


def test_the_score_is_that_of_the_evaluation(run: Path, dataset: Path) -> None:
    recipe = load("smoke", [*SETTINGS, "probes.0.slides=4"])
    model = models.load(run)
    live = Probes(recipe, setting(dataset))
    found = live(model.module.state_dict(), list(recipe.probes))
    expected = collapse(model, dataset, tiles_per_slide=6, k=2, seed=recipe.seed)
    for name in FIGURES:
        assert found[f"collapse_{name}"] == pytest.approx(expected[name])


def test_fewer_slides_are_drawn_by_the_seed(dataset: Path) -> None:
    drawn = set()
    for seed in range(8):
        recipe = load("smoke", [*SETTINGS, f"seed={seed}"])
        held_out = hold_out(of(Dataset(dataset)), recipe).slides
        live = LiveCollapse(recipe.probes[0], replace(setting(dataset), held_out=held_out, seed=seed))
        assert len(live.order) == 12
        drawn.add(tuple(sorted(set(live.tiles.group[live.order].tolist()))))
    assert len(drawn) > 1


def test_training_never_sees_the_slides_that_are_held_out(run: Path, dataset: Path) -> None:
    recipe = load("smoke", SETTINGS)
    held_out = hold_out(of(Dataset(dataset)), recipe)
    assert len(held_out.slides) == 2
    with closing(Loader(of(Dataset(dataset)), BatchOptions.of(recipe), held_out=held_out.tiles)) as loader:
        assert len(loader) == 18
        epoch = np.concatenate([loader.tiles(step) for step in range(3)])  # of six tiles
    seen = {loader.name(tile).split(",")[0] for tile in epoch.tolist()}
    assert len(set(epoch.tolist())) == 18
    assert seen == {f"slide {name}" for name in "abcd" if name not in held_out.slides}
    identity = json.loads((run / "run.json").read_text())["identity"]
    assert identity["held-out slides"] == list(held_out.slides)
    assert identity["dataset tiles"] == 18


@pytest.mark.parametrize("setting", [".0.slides=3", ".0.tiles=3", ".0.dataset={other}", ".0.every=1", "=[]"])
def test_a_run_goes_on_without_the_slides_that_it_began_without(
    setting: str, dataset: Path, tmp_path: Path
) -> None:
    other = write_dataset(tmp_path / "other", {"x": noise(7), "y": noise(7, seed=1)})
    settings = (*SETTINGS, "checkpoint.every=2", "checkpoint.keep=9", "seed=3")
    run = tmp_path / "run"
    pretrain(dataset, load("smoke", settings), run)
    expected = checkpoint.load(run)["student"]["backbone"]
    (run / "checkpoints" / "00000005.json").unlink()
    held_out = json.loads((run / "run.json").read_text())["identity"]["held-out slides"]
    changed = load("smoke", [*settings, f"probes{setting.format(other=other)}"])
    assert pretrain(dataset, changed, run).resumed_from == 4
    assert json.loads((run / "run.json").read_text())["identity"]["held-out slides"] == held_out
    found = checkpoint.load(run)["student"]["backbone"]
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_slides_are_drawn_whatever_they_hold_and_never_most_of_the_tiles(tmp_path: Path) -> None:
    sizes = {f"s{number:02}": 2 + (number % 2) * 8 for number in range(20)}
    tiles = {name: noise(size, seed=n) for n, (name, size) in enumerate(sizes.items())}
    data = Dataset(write_dataset(tmp_path / "dataset", tiles))
    settings = [[*SETTINGS, "probes.0.tiles=10", f"seed={seed}"] for seed in range(12)]
    drawn = [hold_out(of(data), load("smoke", each)).slides for each in settings]
    assert {sizes[name] for slides in drawn for name in slides} == {2, 10}
    uneven = {"a": noise(30), "b": noise(30, seed=1), "c": noise(2), "d": noise(2, seed=2)}
    data = Dataset(write_dataset(tmp_path / "uneven", uneven))
    with pytest.raises(UsageError, match=r"have \d+ of 64 tiles, and training would lose them; give"):
        for each in settings:
            hold_out(of(data), load("smoke", each))


def test_slides_with_labels_stay_in_training(dataset: Path) -> None:
    recipe = load("smoke", SETTINGS)
    assert hold_out(of(Dataset(dataset)), recipe, labelled=["b", "d"]).slides == ("a", "c")
    with pytest.raises(UsageError, match="not 1; labelled ones are needed for training; give"):
        hold_out(of(Dataset(dataset)), recipe, labelled=["a", "b", "d"])


def test_no_more_than_a_tenth_is_held_out(tmp_path: Path) -> None:
    slides = {f"s{number:02}": noise(3, seed=number) for number in range(30)}
    data = Dataset(write_dataset(tmp_path / "dataset", slides))
    sizes = {
        wanted: len(hold_out(of(data), load("smoke", [*SETTINGS, f"probes.0.slides={wanted}"])).slides)
        for wanted in (2, 3, 10)
    }
    assert sizes == {2: 2, 3: 3, 10: 3}


def test_the_score_on_another_dataset(dataset: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", {"x": noise(7), "y": noise(7, seed=1), "z": noise(7, seed=2)})
    settings = (*SETTINGS, "probes.0.slides=10", f"probes.0.dataset={other}")
    pretrain(dataset, load("smoke", settings), tmp_path / "run")
    logged = [row for row in rows(tmp_path / "run") if "collapse_chance" in row]
    assert [row["step"] for row in logged] == [0, 2, 4, 5]
    assert all(row["collapse_chance"] == pytest.approx(5 / 17) for row in logged)
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert identity["dataset tiles"] == 36
    with pytest.raises(UsageError, match="is what is trained on"):
        hold_out(of(Dataset(dataset)), load("smoke", [*SETTINGS, f"probes.0.dataset={dataset}"]))


def test_mixed_shards_have_a_score_on_other_slides_only(dataset: Path, tmp_path: Path) -> None:
    mix([dataset], tmp_path / "mixed", tiles_per_shard=10)
    out = io.StringIO()
    settings = (*SETTINGS, "steps=2")
    with said_to(out):
        pretrain(tmp_path / "mixed", load("smoke", settings), tmp_path / "none")
    assert (
        "no collapse score: mixed shards have no slides to hold out; the probe's `dataset`" in out.getvalue()
    )
    assert not any("collapse_ratio" in row for row in rows(tmp_path / "none"))
    other = write_dataset(tmp_path / "other", {"x": noise(7), "y": noise(7, seed=1)})
    recipe = load("smoke", [*settings, f"probes.0.dataset={other}"])
    pretrain(tmp_path / "mixed", recipe, tmp_path / "some")
    assert json.loads((tmp_path / "some" / "run.json").read_text())["slides"] == 4
    with pytest.raises(UsageError, match="is what is trained on"):
        hold_out(
            of(pathprep.open(tmp_path / "mixed")), load("smoke", [*settings, f"probes.0.dataset={dataset}"])
        )
    assert ["collapse_ratio" in row for row in rows(tmp_path / "some")] == [True, True]


def test_too_few_slides_to_hold_some_out(tmp_path: Path) -> None:
    alone = write_dataset(tmp_path / "dataset", {"a": noise(5, 48), "b": noise(1), "c": noise(2)})
    with pytest.raises(UsageError, match="have 7 of 8 tiles, and training would lose them"):
        pretrain(alone, load("smoke", SETTINGS), tmp_path / "run")


def test_features_that_are_not_finite_have_no_score(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = load("smoke", SETTINGS)
    live = Probes(recipe, setting(dataset))
    weights = empty_model(recipe, None).module.state_dict()
    weights = {name: torch.full_like(value, torch.nan) for name, value in weights.items()}
    assert live(weights, list(recipe.probes)) == {}
    assert "not finite" in caplog.text


def test_the_report_shows_them(run: Path) -> None:
    page = report.report(run).read_text()
    for title in ("Feature collapse (own slide against chance", "Gradient norm", "Teacher entropy"):
        assert title in page
    assert "Model FLOP utilisation" not in page


class Fake:
    """The parts of the wandb package that are used."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        self.begun.append(options)
        log = lambda values, step: self.logged.append((step, values))  # noqa: E731
        return SimpleNamespace(log=log, finish=self._finish)

    def _finish(self) -> None:
        self.finished += 1


def test_weights_and_biases(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    recipe = load("smoke", [*TINY, "steps=4", "batch=6", "log_every=2", "checkpoint.every=2"])
    folder = tmp_path / "mine"
    pretrain(dataset, recipe, folder, wandb="tissue")
    for path in (folder / "checkpoints").glob("00000004.*"):
        path.unlink()
    pretrain(dataset, recipe, folder, wandb="tissue")
    first, second = fake.begun
    assert (first["project"], first["name"]) == ("tissue", "mine")
    assert first["config"]["batch"] == 6
    assert first["id"] == second["id"]
    assert [step for step, _ in fake.logged] == [2, 4, 4]
    assert fake.logged[1][1]["loss"] == rows(folder)[-1]["loss"]
    assert "mfu" not in fake.logged[0][1]
    assert fake.finished == 2


def test_without_its_package(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="wandb is not installed: pip install wandb"):
        pretrain(dataset, load("smoke", TINY), tmp_path / "run", wandb="tissue")
    assert not (tmp_path / "run").exists()


def test_a_damaged_tile_of_the_sample_costs_the_score_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_dataset(tmp_path / "dataset", {name: noise(6, seed=ord(name)) for name in "abcd"})
    held_out = hold_out(of(Dataset(data)), load("smoke", SETTINGS)).slides
    tar = data / "shards" / f"{held_out[0]}.tar"
    content = bytearray(tar.read_bytes())
    content[600] ^= 255
    tar.write_bytes(content)
    settings = (
        *TINY,
        "steps=2",
        "probes=[{kind: collapse, every: 1, slides: 2, tiles: 6}]",
        "checkpoint.every=1",
    )
    recipe = load("smoke", [*settings])
    done = pretrain(data, recipe, tmp_path / "run")
    assert done.steps == 2
    assert "no figures of the probe collapse" in caplog.text


def test_a_start_that_failed_may_be_mended(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ModelError):
        pretrain(dataset, load("smoke", [*TINY, "model.name=vit_foo"]), run)
    assert pretrain(dataset, load("smoke", [*TINY, "steps=1"]), run).steps == 1


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_text("slide,label\na,x\nb,y\nc,x\nd,y\n")
    return path


def with_probes(dataset: Path, labels: Path, *settings: str) -> Recipe:
    knn = f"probes.0={{kind: knn, every: 2, train: {dataset}, labels: {labels}, k: 3}}"
    return load("smoke", [*TINY, "steps=5", "batch=6", knn, "probes.1={kind: rank, every: 3}", *settings])


def test_probes_leave_training_as_it_is_to_the_bit(dataset: Path, labels: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    with said_to(out):
        pretrain(dataset, with_probes(dataset, labels), tmp_path / "with")
    pretrain(dataset, with_probes(dataset, labels, "probes=[]"), tmp_path / "without")
    found, expected = (checkpoint.load(tmp_path / name) for name in ("with", "without"))
    for part in ("student", "teacher"):
        for name, value in expected[part]["backbone"].items():
            assert torch.equal(found[part]["backbone"][name], value), name
    assert found["config"] == expected["config"]
    logged = {row["step"]: row for row in rows(tmp_path / "with")}
    assert [step for step, row in logged.items() if "knn_accuracy" in row] == [0, 2, 4, 5]
    assert [step for step, row in logged.items() if "rank_effective" in row] == [0, 3, 5]
    assert {row["knn_accuracy_colour"] for row in logged.values() if "knn_accuracy" in row} == {
        logged[0]["knn_accuracy_colour"]
    }
    said = out.getvalue()
    assert "before the first step: knn_accuracy" in said
    assert "step 3: rank_effective" in said
    assert "step 4: knn_accuracy" in said
    assert f"probe knn: 4 of the 4 slides of {dataset} are trained on (a, b, c, ...)" in said
    assert f"probe rank: 4 of the 4 slides of {dataset} are trained on" in said


def test_the_log_of_a_killed_run_is_that_of_one_that_was_not(
    dataset: Path, labels: Path, tmp_path: Path
) -> None:
    recipe = with_probes(dataset, labels, "checkpoint.every=2")

    class Killed(Exception):
        pass

    def watch(done: int, total: int, row: Row | None) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        pretrain(dataset, recipe, tmp_path / "killed", watch=watch)
    assert pretrain(dataset, recipe, tmp_path / "killed").resumed_from == 2
    pretrain(dataset, recipe, tmp_path / "straight")
    assert logged(tmp_path / "killed") == logged(tmp_path / "straight")


@pytest.mark.parametrize("test", [False, True])
def test_knn_is_that_of_the_evaluation(
    test: bool, run: Path, dataset: Path, labels: Path, tmp_path: Path
) -> None:
    asked, model = None, models.load(run)
    if test:
        asked = labelled_folder(tmp_path / "asked", {"g0": "x", "g1": "y"}, each=4)
    recipe = with_probes(dataset, labels, f"probes.0.test={asked or 'null'}")
    found = Probes(recipe, setting(dataset))(model.module.state_dict(), [recipe.probes[0]])
    expected = knn(model, dataset, asked, labels, k=3)
    own, colour = (
        next(row for row in expected["results"] if row["name"] == name) for name in ("model", "colour")
    )
    assert found == {
        "knn_accuracy": pytest.approx(own["accuracy"]),
        "knn_balanced": pytest.approx(own["balanced"]),
        "knn_accuracy_colour": pytest.approx(colour["accuracy"]),
        "knn_accuracy_majority": pytest.approx(expected["majority"]),
    }


def test_the_largest_number_of_tiles_is_drawn_by_the_seed(dataset: Path, labels: Path) -> None:
    config = with_probes(dataset, labels, "probes.0.tiles=20").probes[0]
    assert isinstance(config, KnnProbe)
    drawn = [LiveKnn(config, replace(setting(dataset), seed=seed)).orders[0].tolist() for seed in (0, 0, 1)]
    assert len(drawn[0]) == 20
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("probes.0.k=28", r"probes\.0 \(knn\): k 28: must be 1 to 27"),
        ("probes.0.labels=null", r"probes\.0 \(knn\): .*: a dataset holds no labels"),
        ("probes.1.dataset=/nowhere", r"probes\.1 \(rank\): /nowhere: neither a dataset"),
    ],
)
def test_what_cannot_be_measured_is_said_before_training(
    wrong: str, message: str, dataset: Path, labels: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        pretrain(dataset, with_probes(dataset, labels, wrong), tmp_path / "run")


def test_mixed_shards_have_a_rank_on_others_only(dataset: Path, labels: Path, tmp_path: Path) -> None:
    mix([dataset], tmp_path / "mixed", tiles_per_shard=10)
    mixed = pathprep.open(tmp_path / "mixed")
    found = hold_out(of(mixed), with_probes(dataset, labels))
    assert [probe.kind for probe in found.probes] == ["knn"]
    assert found.said == ("no rank: mixed shards have no slides; its key dataset measures on others",)
    recipe = with_probes(dataset, labels)
    live = LiveKnn(recipe.probes[0], replace(setting(dataset), data=of(mixed)))
    assert live.said[0].startswith("4 of the 4 slides")


def test_tiles_are_normalised_as_the_models_are(
    normalising: Callable[..., Path], stained: Callable[..., Path], tmp_path: Path
) -> None:
    model, data = models.load(normalising()), stained("none")
    slides = Dataset(data).tile_counts()
    (tmp_path / "labels.csv").write_text(
        "slide,label\n" + "".join(f"{name},{'xy'[number % 2]}\n" for number, name in enumerate(slides))
    )
    recipe = with_probes(data, tmp_path / "labels.csv", "probes.0.k=1")
    plain, aimed = setting(data), replace(setting(data), target=model.target)
    figures = [Probes(recipe, each)(model.module.state_dict(), recipe.probes) for each in (plain, aimed)]
    assert figures[0]["rank_effective"] != figures[1]["rank_effective"]
    expected = {row["name"]: row for row in knn(model, data, None, tmp_path / "labels.csv", k=1)["results"]}
    assert figures[1]["knn_accuracy"] == pytest.approx(expected["model"]["accuracy"])
    assert figures[1]["knn_accuracy_colour"] == pytest.approx(expected["colour"]["accuracy"])


def test_a_start_that_was_killed_logs_its_probes_once(tmp_path: Path) -> None:
    for _ in range(2):
        with Log(tmp_path, 0) as log:
            log.write({"step": 0, "knn_accuracy": 0.5})
            log.write({"step": 1, "loss": 1.0})
    assert [row["step"] for row in rows(tmp_path)] == [0, 1]
    with Log(tmp_path, 1):
        assert [row["step"] for row in rows(tmp_path)] == [0, 1]
