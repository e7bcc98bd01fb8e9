"""A run from another one: what is taken, what begins anew, what is refused; and gone on with to the bit."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hierarchies import FIRST, HEAD, SECOND, SMALL, write_labels, write_slides
from helpers.toys import noise, write_dataset
from helpers.training import SETTINGS, assert_same_to_the_bit, train
from torch.nn import functional

from pathtrain import methods
from pathtrain.data.training_data import opened
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.methods.base import Method
from pathtrain.recipes.load import dump, load
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import checkpoint, warm_start
from pathtrain.runs.warm_start import adopt, find
from pathtrain.training.logs import Row
from pathtrain.training.pretrain import pretrain

CPU = torch.device("cpu")
ALIKE = (f"dino.head={HEAD}", "model.kwargs.depth=1")  # as the hierarchical runs of these tests have them


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("warm") / "dataset", {"a": noise(12), "b": noise(9, seed=2)})


@pytest.fixture
def first(dataset: Path, tmp_path: Path) -> Path:
    """A run with checkpoints of steps 3 and 6."""
    run = tmp_path / "first"
    train(dataset, run, "steps=6", "checkpoint={every: 3, keep: 2}", "optim.lr=0.003")
    return run


def networks(run: Path | dict[str, Any]) -> dict[str, torch.Tensor]:
    state = checkpoint.load(run) if isinstance(run, Path) else run
    found = {
        f"{network}.{part}.{name}": value
        for network in ("student", "teacher")
        for part, weights in state[network].items()
        for name, value in weights.items()
    }
    return found | state["loss"]


def test_both_networks_heads_and_centre_go_on_and_the_schedule_begins_anew(
    dataset: Path, first: Path, tmp_path: Path
) -> None:
    """At step 0 of a warm-up the rate is 0, so the student after it is the one that was taken."""
    run = tmp_path / "second"
    summary, text = train(
        dataset, run, "steps=1", f"model.init=run:{first}", "dino.momentum={start: 1, end: 1}"
    )
    assert summary.resumed_from == 0
    assert f"starts from {first}, step 6: backbone, head, center\n" in text
    mine, theirs = networks(run), networks(first)
    assert not torch.equal(mine.pop("center"), theirs.pop("center"))  # which has moved on, by one batch
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert not torch.equal(mine["student.head.mlp.0.weight"], mine["teacher.head.mlp.0.weight"])
    steps = {int(state["step"]) for state in checkpoint.load(run)["optimizer"]["state"].values()}
    assert steps == {1}
    kept = json.loads((run / "run.json").read_text())["identity"]
    (entry,) = [entry for entry in checkpoint.entries(first) if entry.step == 6]
    assert (kept["model.init step"], kept["model.init sha256"]) == (6, entry.sha256)


def test_gone_on_with_to_the_bit_while_the_other_run_moves_on(
    dataset: Path, first: Path, tmp_path: Path
) -> None:
    begun = ("steps=8", f"model.init=run:{first}", "checkpoint={every: 4, keep: 2}", "optim.lr=0.003")
    train(dataset, tmp_path / "straight", *begun)

    class Killed(Exception):
        pass

    def watch(done: int, total: int, row: Row | None) -> None:
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        pretrain(dataset, load("smoke", [*SETTINGS, *begun]), tmp_path / "killed", watch=watch)
    state = checkpoint.load(first)
    for step in (9, 12):  # after which step 6 is gone
        checkpoint.save(first, state, step, "config", keep=2)
    assert train(dataset, tmp_path / "killed", *begun)[0].resumed_from == 4
    assert_same_to_the_bit(tmp_path / "killed", tmp_path / "straight")
    (first / "checkpoints" / "00000006.json").write_text(
        json.dumps({"file": "00000006.pt", "step": 6, "sha256": "0" * 64, "config": "config"})
    )
    with pytest.raises(
        CheckpointError, match="its checkpoint of step 6 is not that which this run was begun"
    ):
        train(dataset, tmp_path / "killed", *begun)
    with pytest.raises(CheckpointError, match="model.init was run:.*first, is run:.*first@9"):
        train(dataset, tmp_path / "killed", *begun, f"model.init=run:{first}@9")


@pytest.mark.parametrize("scheme", ["once", "hub", "registers"])
def test_a_run_for_larger_images(dataset: Path, first: Path, tmp_path: Path, scheme: str) -> None:
    """Post-training: with larger crops as it is; with another img_size by positions for that grid."""
    base = ("steps=1", f"model.init=run:{first}", "views.globals.size=64", "views.locals.size=32")
    still = ("dino.momentum={start: 1, end: 1}", f"model.positions={scheme}")
    _, text = train(dataset, tmp_path / "crops", *base, *still)
    assert f"starts from {first}, step 6: backbone, head, center\n" in text
    name = "teacher.backbone.pos_embed"
    held = networks(first)[name]
    assert torch.equal(networks(tmp_path / "crops")[name], held)
    train(dataset, tmp_path / "size", *base, *still, "model.kwargs.img_size=64")
    grid = held[:, 1:].double().view(1, 2, 2, -1).permute(0, 3, 1, 2)
    made = functional.interpolate(grid, scale_factor=4.1 / 2, mode="bicubic").permute(
        0, 2, 3, 1
    )  # first's is once
    found = networks(tmp_path / "size")[name]
    assert torch.equal(found[:, :1], held[:, :1])
    assert torch.allclose(found[:, 1:].double(), made.reshape(1, 16, -1), atol=1e-6)


def test_parts_that_are_single_tensors_are_taken_too(first: Path) -> None:
    """A mask token; what has another shape is refused."""
    recipe = load("smoke", SETTINGS)
    start = find(load("smoke", [f"model.init=run:{first}"]).model, None, None)
    assert start is not None
    given = start.state()
    for network in ("student", "teacher"):
        given[network]["mask_token"] = torch.full((1, 24), 3.0)

    class Masked:
        def __init__(self, width: int) -> None:
            self.own = {name: dict(given[name]) for name in ("student", "teacher")}
            for network in self.own.values():
                network["mask_token"] = torch.zeros(1, width)

        def state(self) -> dict[str, Any]:
            return {**self.own, "loss": {}}

        def load_state(self, state: dict[str, Any]) -> None:
            self.loaded = state

    class Given:
        run, step = first, 6

        def state(self) -> dict[str, Any]:
            return given

    method: Any = Masked(24)
    stand_in: Any = Given()
    assert "backbone, head, mask token" in adopt(method, recipe, stand_in)
    assert method.loaded["student"]["mask_token"].eq(3).all()
    wrong: Any = Masked(8)
    with pytest.raises(
        ModelError, match=r"mask_token of .* is another one \(it is \(1, 24\), here \(1, 8\)\)"
    ):
        adopt(wrong, recipe, stand_in)


def test_a_step_of_a_run(dataset: Path, first: Path, tmp_path: Path) -> None:
    model = load("smoke", [f"model.init=run:{first}@3"]).model
    start = find(model, tmp_path / "new", None)
    assert start is not None
    assert start.step == 3
    given = ("run:/a@b/c", "run:/a@b/c@3", "run:/a@b/c@3@30")
    assert [warm_start.at_step(init, 7) for init in given] == [
        "run:/a@b/c@7",
        "run:/a@b/c@7",
        "run:/a@b/c@3@7",
    ]
    made = warm_start.encoder(load("smoke", SETTINGS).model, start)
    (entry,) = [entry for entry in checkpoint.entries(first) if entry.step == 3]
    kept = checkpoint.read(first, entry)["teacher"]["backbone"]
    assert all(torch.equal(value, kept[name]) for name, value in made.state_dict().items())
    path = first / "checkpoints" / entry.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="00000003.pt is damaged"):
        start.state()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("run:{first}@4", "no such checkpoint; there are steps 3, 6"),
        ("run:{first}/absent", "is no run"),
        ("'run:'", "names no folder; give run:FOLDER or run:FOLDER@STEP"),
        ("run:{run}", "is this run's own folder"),
    ],
)
def test_starts_that_are_none(dataset: Path, first: Path, tmp_path: Path, init: str, message: str) -> None:
    run = first if "{run}" in init else tmp_path / "run"
    with pytest.raises((ModelError, CheckpointError), match=message):
        train(dataset, run, f"model.init={init.format(first=first, run=first)}", fresh=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "dino.head.out_dim=64",
            r"head of .*first is another one \(last_direction is \(32, 8\), here \(64, 8\)",
        ),
        ("model.kwargs.depth=1", "has model.kwargs=.*'depth': 2.*make them equal"),
        ("model.kwargs.num_heads=3", "has model.kwargs="),  # of which shapes tell nothing
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(
    dataset: Path, first: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(ModelError, match=rf"{message}.*`pathtrain export .*first --out FOLDER`") as caught:
        train(dataset, tmp_path / "run", f"model.init=run:{first}", change)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "run.json").exists()


def test_another_mean_is_said(dataset: Path, first: Path, tmp_path: Path) -> None:
    _, text = train(
        dataset, tmp_path / "run", "steps=1", f"model.init=run:{first}", "model.mean=[0.5,0.5,0.5]"
    )
    assert "learnt with mean [0.485, 0.456, 0.406]" in text
    assert "Set model.mean=[0.485, 0.456, 0.406] model.std=[0.229, 0.224, 0.225]" in text


def new(recipe: Recipe, folder: Path, fresh: bool = True) -> Method:
    setup = methods.setup(
        recipe,
        opened(folder / "dataset"),
        folder / "labels.csv" if recipe.method == "hierarchical" else None,
    )
    return setup.method(8, CPU, fresh)


def saved(method: Method, recipe: Recipe, run: Path) -> Path:
    """A run of this state after one step."""
    run.mkdir()
    (run / "recipe.yaml").write_text(dump(recipe))
    checkpoint.save(run, {"step": 1, **method.state()}, 1, "config", keep=1)
    return run


def three_stages(more: Sequence[str] = ()) -> Recipe:
    return load("exaonepath2-tiny", [*SMALL, f"hierarchy.phases=[{FIRST}, {SECOND}]", *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("stages")
    write_slides(found / "dataset")
    write_labels(found / "labels.csv")
    return found


def test_between_dino_and_three_stages(folder: Path, tmp_path: Path) -> None:
    dino, three = load("smoke", [*SETTINGS, *ALIKE]), three_stages()
    for number, (one, other) in enumerate([(dino, three), (three, dino)]):
        torch.manual_seed(number)
        run = saved(new(one, folder), one, tmp_path / f"run{number}")
        torch.manual_seed(9)
        method = new(other, folder, fresh=False)
        before = networks({**method.state(), "loss": {}})
        start = find(load("smoke", [f"model.init=run:{run}"]).model, tmp_path / "new", None)
        assert start is not None
        said = adopt(method, other, start)
        mine, theirs = networks(method.state()), networks(run)
        for name, value in mine.items():
            shared = name.split(".")[1] in ("backbone", "head") if "." in name else name == "center"
            source = theirs if shared else before
            assert name not in source or torch.equal(value, source[name]), name
        assert f"{run}, step 1: backbone, head, center; " in said
        rest = "stage2, region head, stage3"
        assert said.endswith(f"not taken: {rest}, tasks" if number else f"new: {rest}, task colour, task odd")


def test_heads_of_the_same_tasks_are_taken(folder: Path, tmp_path: Path) -> None:
    three = three_stages()
    torch.manual_seed(0)
    run = saved(new(three, folder), three, tmp_path / "run")
    other = tmp_path / "other"
    other.mkdir()
    (other / "dataset").symlink_to(folder / "dataset")
    text = (folder / "labels.csv").read_text().replace("patient,colour,odd", "patient,hue,colour")
    (other / "labels.csv").write_text(text)  # colour has the classes of odd, hue those of colour
    start = find(load("smoke", [f"model.init=run:{run}"]).model, tmp_path / "new", None)
    assert start is not None
    method = new(three, other, fresh=False)
    assert adopt(method, three, start).endswith("; new: task hue, task colour")
    (other / "labels.csv").write_text(text.replace("hue,colour", "hue,odd"))
    method = new(three, other, fresh=False)
    assert "task odd" in adopt(method, three, start).partition("new: task hue")[0]
    heads, theirs = method.state()["student"]["tasks"], checkpoint.load(run)["student"]["tasks"]
    assert torch.equal(heads["1.weight"], theirs["1.weight"])
    assert not torch.equal(heads["0.weight"], theirs["0.weight"])
    assert torch.equal(networks(method.state())["region_center"], networks(run)["region_center"])
    for change in ("heads: 4", "heads: 2, pool: mean"):
        changed = three_stages([f"hierarchy.stage2={{dim: 16, depth: 1, dropout: 0.1, {change}}}"])
        with pytest.raises(ModelError, match=r"has hierarchy.stage2.(heads=2|pool=token), the"):
            adopt(new(changed, folder, fresh=False), changed, start)
