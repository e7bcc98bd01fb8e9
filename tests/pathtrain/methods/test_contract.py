"""What every method keeps to: a loss changes nothing, and a new one needs a line in the two registries."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from helpers.hierarchies import FIRST, SECOND, SMALL, write_labels, write_slides
from helpers.toys import TINY, noise, write_dataset

from pathtrain import methods
from pathtrain.data.source import NO_TILES
from pathtrain.data.training_data import opened
from pathtrain.distributed.ranks import ALONE
from pathtrain.methods.base import Method, Outcome
from pathtrain.methods.dino import DinoSetup
from pathtrain.recipes.dino import DinoRecipe
from pathtrain.recipes.load import RECIPES, load
from pathtrain.training.pretrain import pretrain

CPU = torch.device("cpu")
CASES = {
    "dino": ("smoke", [*TINY, "batch=4", "dino.drop_path=0.2"]),
    "dinov2": ("midnight-tiny", [*TINY, "batch=4", "dino.drop_path=0.2"]),
    "hierarchical": ("exaonepath2-tiny", [*SMALL, f"hierarchy.phases=[{FIRST}, {SECOND}]"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("contract")
    write_slides(found / "dataset")
    write_labels(found / "labels.csv")
    return found


def test_every_method_has_a_recipe_and_a_setup() -> None:
    assert methods.METHODS.keys() == RECIPES.keys() == CASES.keys()


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and copies of all that a state holds."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from flat(part, f"{name}.{key}")
    else:
        yield name, value.clone() if isinstance(value, torch.Tensor) else value


def equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def losses(method: Method, parts: list[Any], step: int) -> list[Outcome]:
    torch.manual_seed(7)
    found = []
    for part in method.prepare(parts, step, ALONE):
        found.append(method.loss(part, step))
        found[-1].loss.backward()
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_loss_changes_nothing(name: str, folder: Path) -> None:
    """Twice without a step between them: equal values, gradients and state."""
    recipe = load(*CASES[name])
    setup = methods.setup(
        recipe, opened(folder / "dataset"), folder / "labels.csv" if name == "hierarchical" else None
    )
    torch.manual_seed(recipe.seed)
    method = setup.method(8, CPU, fresh=True)
    with closing(setup.source(0, ALONE, None, NO_TILES)) as source:
        for step, batch in enumerate(islice(source, 5)):  # of the hierarchical one, both phases
            parts, before = method.split(batch.views, 2), dict(flat(method.state()))
            turns = []
            for _ in range(2):
                method.student.zero_grad()
                found = losses(method, parts, step)
                grads = [p.grad for p in method.student.parameters() if p.grad is not None]
                turns.append(([one.loss for one in found], [one.means for one in found], grads))
            after = dict(flat(method.state()))
            assert before.keys() == after.keys()
            assert all(equal(before[key], after[key]) for key in before)
            (first, means, grads), (second, again, other) = turns
            assert all(map(torch.equal, first, second))
            assert all(map(torch.equal, grads, other))
            assert all(torch.equal(a[key], b[key]) for a, b in zip(means, again, strict=True) for key in a)


class ToyRecipe(DinoRecipe):
    method: Literal["toy"]  # type: ignore[assignment]
    factor: float


class ToySetup(DinoSetup):
    """DINO, and what a run of it must keep."""

    recipe: ToyRecipe  # type: ignore[assignment]

    def identity(self) -> dict[str, Any]:
        return {"toy": self.recipe.factor}


def test_a_new_method_needs_no_change_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("toy_method")
    module.ToySetup = ToySetup  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_method", module)
    monkeypatch.setitem(methods.METHODS, "toy", "toy_method:ToySetup")
    monkeypatch.setitem(RECIPES, "toy", ToyRecipe)
    dataset = write_dataset(tmp_path / "dataset", {"a": noise(8)})
    recipe = load("smoke", [*TINY, "method=toy", "factor=2", "batch=4", "steps=2"])
    assert pretrain(dataset, recipe, tmp_path / "run").steps == 2
    assert load(tmp_path / "run" / "recipe.yaml") == recipe
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["toy"] == 2
