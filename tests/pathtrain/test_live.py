"""What is measured and shown while training: collapse score, figures of a row, Weights & Biases."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from toys import TINY, noise, write_dataset

from pathprep.errors import UsageError
from pathtrain import report
from pathtrain.evaluate.collapse import collapse
from pathtrain.live import LiveCollapse
from pathtrain.logs import rows
from pathtrain.models import load as models
from pathtrain.models.backbone import build
from pathtrain.recipes.load import load
from pathtrain.trainer import pretrain

SETTINGS = (*TINY, "steps=5", "batch=6", "log_every=3", "collapse={every: 2, slides: 2, tiles: 6}")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    colours = {"a": (180, 90, 160), "b": (90, 60, 140), "c": (200, 150, 190)}
    slides = {name: noise(9, 48, colour, seed=n) for n, (name, colour) in enumerate(colours.items())}
    return write_dataset(tmp_path_factory.mktemp("live") / "dataset", slides)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live") / "run"
    pretrain(dataset, load("smoke", SETTINGS), folder, False, Console(quiet=True))
    return folder


def test_rows(run: Path) -> None:
    logged = {row["step"]: row for row in rows(run)}
    assert sorted(logged) == [2, 3, 4, 5]
    assert ["collapse_ratio" in logged[step] for step in (2, 3, 4, 5)] == [True, False, True, True]
    for row in logged.values():
        assert row["gradient_norm"] > 0
        assert row["teacher_entropy"] > 0
        assert row["mfu"] is None
        assert 0 <= row["data_wait"] <= 1


def test_the_score_is_that_of_the_evaluation(run: Path, dataset: Path) -> None:
    recipe = load("smoke", [*SETTINGS, "collapse.slides=3"])
    model = models.load(run)
    live = LiveCollapse(dataset, recipe, None, CPU)
    assert len(live.order) == 18
    found = live(model.module.state_dict())
    expected, _ = collapse(model, dataset, tiles_per_slide=6, k=1, seed=recipe.seed)
    for name in ("own_share", "chance", "ratio"):
        assert found[f"collapse_{name}"] == pytest.approx(expected[name])


def test_fewer_slides_are_drawn_by_the_seed(dataset: Path) -> None:
    drawn = set()
    for seed in range(8):
        live = LiveCollapse(dataset, load("smoke", [*SETTINGS, f"seed={seed}"]), None, CPU)
        assert len(live.order) == 12
        drawn.add(tuple(sorted(set(live.tiles.group[live.order].tolist()))))
    assert len(drawn) > 1


def test_one_slide_is_not_enough(tmp_path: Path) -> None:
    alone = write_dataset(tmp_path / "dataset", {"a": noise(5, 48)})
    with pytest.raises(UsageError, match="collapse.every needs 2 slides"):
        pretrain(alone, load("smoke", SETTINGS), tmp_path / "run", False, Console(quiet=True))


def test_features_that_are_not_finite_have_no_score(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load("smoke", SETTINGS)
    live = LiveCollapse(dataset, recipe, None, CPU)
    weights = {
        name: torch.full_like(value, torch.nan) for name, value in build(recipe.model).state_dict().items()
    }
    assert live(weights) == {}
    assert "not finite" in capsys.readouterr().err


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
    pretrain(dataset, recipe, folder, False, Console(quiet=True), wandb="tissue")
    for path in (folder / "checkpoints").glob("00000004.*"):
        path.unlink()
    pretrain(dataset, recipe, folder, False, Console(quiet=True), wandb="tissue")
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
        pretrain(dataset, load("smoke", TINY), tmp_path / "run", False, Console(quiet=True), wandb="tissue")
    assert not (tmp_path / "run").exists()
