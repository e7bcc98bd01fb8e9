"""One step: parts of a batch, checkpointed activations and rounding; schedules of a whole run by hand."""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.toys import TINY, moved

from pathtrain.distributed.ranks import Ranks
from pathtrain.errors import RecipeError
from pathtrain.methods.dino import Dino
from pathtrain.models.backbone import checkpoint_activations
from pathtrain.recipes.load import load
from pathtrain.recipes.model import ModelConfig
from pathtrain.training import compiling, flops, step
from pathtrain.training.optim import adamw, scale_each

CPU = torch.device("cpu")
ONE = Ranks(0, 1, CPU)
SETTINGS = (
    *TINY,
    "batch=8",
    "optim.warmup_steps=0",
    "dino.head={out_dim: 32, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: true}",
    "model.kwargs.depth=2",
)


@dataclass
class Images:
    """Random views of eight tiles."""

    tiles: npt.NDArray[np.int64] = field(default_factory=lambda: np.arange(8))
    wait: float = 0.25
    views: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        self.views = [torch.randn(8, 3, size, size, generator=rng) for size in [32, 32, 16, 16, 16, 16]]


def run(*more: str, steps: int = 3) -> tuple[list[step.Done], Dino]:
    recipe = load("smoke", [*SETTINGS, *more])
    torch.manual_seed(0)
    dino = Dino(recipe, 10, CPU)
    stepper = step.Stepper(dino, adamw(dino.student, recipe.optim), recipe, ONE, 10)
    if compiling.wanted(recipe.compile, CPU):
        stepper.compile()
    done = []
    for number in range(steps):
        late = number >= 3  # by then all is compiled
        with torch.compiler.set_stance("fail_on_recompile" if late else "default"):
            done.append(stepper.take(Images(), number, stop=False).read())
    return done, dino


def assert_same(one: tuple[list[step.Done], Dino], other: tuple[list[step.Done], Dino]) -> None:
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert mine.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-4)
        assert mine.means == pytest.approx(theirs.means, rel=1e-4)
        assert torch.allclose(mine.each, theirs.each, atol=1e-5)
    assert torch.allclose(one[1].center, other[1].center, atol=1e-6)
    for network in ("student", "teacher"):
        pairs = [getattr(side[1], network).named_parameters() for side in (one, other)]
        for (name, new), (_, old) in zip(*pairs, strict=True):
            assert torch.allclose(moved(name, new), moved(name, old), atol=2e-5), name


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_parts_of_a_batch_give_the_step_of_the_whole(size: int) -> None:
    assert_same(run(f"micro_batch={size}"), run())


def test_checkpointed_activations_change_nothing() -> None:
    """Stochastic depth included: its random numbers are drawn again as they were."""
    assert_same(run("model.checkpoint=true", "dino.drop_path=0.5"), run("dino.drop_path=0.5"))


def test_stochastic_depth_follows_from_the_step_alone() -> None:
    first, _ = run("dino.drop_path=0.5", steps=1)
    torch.rand(7)
    assert run("dino.drop_path=0.5", steps=1)[0][0].loss == first[0].loss
    assert len({step.random_state(0, s, rank) for s in range(50) for rank in range(4)}) == 200


FROZEN = ("optim.freeze_backbone_steps=2", "optim.lr=0.01", "optim.weight_decay={start: 0.4, end: 0.4}")


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frozen_start_trains_heads_alone(precision: str, size: int) -> None:
    """No step, no weight decay, nothing remembered; then the backbone begins as in a first step."""
    recipe = load("smoke", [*SETTINGS, *FROZEN, f"micro_batch={size}", f"precision={precision}"])
    torch.manual_seed(0)
    dino = Dino(recipe, 10, CPU)
    optimizer = adamw(dino.student, recipe.optim)
    stepper = step.Stepper(dino, optimizer, recipe, ONE, 10)
    backbone = dino.student["backbone"]
    first = {name: p.detach().clone() for name, p in dino.student.named_parameters()}
    for number in range(2):
        done = stepper.take(Images(), number, stop=False).read()
        assert done.taken
        assert done.means.keys() >= {"gradient_norm_head"}
        assert "gradient_norm_backbone" not in done.means
        for name, p in dino.student.named_parameters():
            assert torch.equal(p, first[name]) == (name.startswith("backbone") or not p.requires_grad), name
        assert not any(p in optimizer.state for p in backbone.parameters())
        for own, other in zip(backbone.parameters(), dino.teacher["backbone"].parameters(), strict=True):
            assert torch.equal(own, other)
    done = stepper.take(Images(), 2, stop=False).read()
    assert "gradient_norm_backbone" in done.means
    weight = backbone.get_parameter("blocks.0.mlp.fc1.weight")
    assert not torch.equal(weight, first["backbone.blocks.0.mlp.fc1.weight"])
    assert optimizer.state[weight]["step"] == 1
    assert optimizer.state[dino.student["head"].get_parameter("mlp.0.weight")]["step"] == 3


def test_a_frozen_start_must_end() -> None:
    with pytest.raises(RecipeError, match="optim.freeze_backbone_steps must be below steps"):
        load("smoke", ["steps=10", "optim.freeze_backbone_steps=10"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_a_frozen_start_compiled_is_the_same() -> None:
    more = (FROZEN[0], "optim.clip=0.3", "optim.clip_by=network")
    assert_same(run("compile=true", *more, steps=3), run(*more, steps=3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_is_the_same_and_compiled_once(precision: str) -> None:
    """In bfloat16 what is fused is rounded less often."""
    more = (f"precision={precision}", "optim.clip=0.3")
    compiled, plain = run("compile=true", *more, steps=6), run(*more, steps=6)
    if precision == "float32":
        assert_same(compiled, plain)
    assert compiled[0][0].loss == pytest.approx(plain[0][0].loss, rel=2e-3)
    assert [d.loss for d in compiled[0]] == pytest.approx([d.loss for d in plain[0]], rel=0.03)


@pytest.mark.parametrize("uniform", [True, False])
def test_clipping_is_compiled_where_every_step_has_the_same_gradients(
    uniform: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("smoke", SETTINGS)
    dino = Dino(recipe, 10, CPU)
    monkeypatch.setattr(dino, "uniform", uniform, raising=False)
    stepper = step.Stepper(dino, adamw(dino.student, recipe.optim), recipe, ONE, 10)
    stepper.compile("eager")
    assert (stepper._scale is not scale_each) == uniform


def test_what_a_step_says() -> None:
    done, _ = run(steps=1)
    assert done[0].taken
    assert not done[0].stop
    assert done[0].wait == 0.25
    assert done[0].each.shape == (8,)
    assert float(done[0].each.mean()) == pytest.approx(done[0].loss, rel=1e-5)
    assert 0 < done[0].means["teacher_entropy"] <= math.log(32) + 1e-5
    assert "center" not in done[0].means


def test_nothing_moves_where_the_loss_is_not_finite() -> None:
    recipe = load("smoke", SETTINGS)
    dino = Dino(recipe, 10, CPU)
    before = [p.clone() for p in [*dino.student.parameters(), *dino.teacher.parameters(), dino.center]]
    images = Images()
    images.views[3][5] = math.nan
    steps = step.Stepper(dino, adamw(dino.student, recipe.optim), recipe, ONE, 10)
    done = steps.take(images, 0, stop=False).read()
    assert not done.taken
    assert [i for i, loss in enumerate(done.each.tolist()) if not math.isfinite(loss)] == [5]
    # the next step may be queued before that is known
    assert steps.take(Images(), 1, stop=False).read().taken
    after = [*dino.student.parameters(), *dino.teacher.parameters(), dino.center]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_schedules_of_a_ten_epoch_run_by_hand() -> None:
    """EXAONEPath 1.0's on 5,120,000 tiles: 1,000 steps an epoch, 10,000 in all."""
    recipe = load("exaonepath1")
    total = recipe.total_steps(5_120_000)
    assert total == 10_000
    bare: Any = SimpleNamespace(config=recipe.dino, total=total)  # schedules need no networks
    method: Any = SimpleNamespace(schedule=lambda s: Dino.schedule(bare, s))
    values = [step.scheduled(recipe, method, total, s) for s in (0, 999, 1000, 5500, 9999)]
    # warm-up over steps 0 to 999; then half a cosine over 9,000 steps: its middle is step 5,500
    assert [v["lr"] for v in values] == pytest.approx(
        [
            0,
            0.005,
            0.005,
            (0.005 + 2e-6) / 2,
            2e-6 + 0.5 * (0.005 - 2e-6) * (1 + math.cos(math.pi * 8999 / 9000)),
        ]
    )
    decay = [0.4 - 0.18 * (1 + math.cos(math.pi * s / 10_000)) for s in (0, 999, 1000, 5500, 9999)]
    assert [v["weight_decay"] for v in values] == pytest.approx(decay)
    assert values[0]["weight_decay"] == pytest.approx(0.04)
    momentum = [1 - 0.002 * (1 + math.cos(math.pi * s / 10_000)) for s in (0, 999, 1000, 5500, 9999)]
    assert [v["momentum"] for v in values] == pytest.approx(momentum)
    warm = recipe.dino.teacher_temp
    for s, value in zip((0, 999, 1000, 5500, 9999), values, strict=True):
        expected = warm.start + (warm.end - warm.start) * min(1, s / warm.steps if warm.steps else 1)
        assert value["teacher_temp"] == pytest.approx(expected)


def test_operations_are_counted_by_the_formula() -> None:
    """Linear layers of both networks by hand; attention on top, patches by convolution."""
    recipe = load("smoke", [*SETTINGS, "model.checkpoint=true"])
    dino = Dino(recipe, 10, CPU)
    images = [view[:1] for view in Images().views]
    counted = flops.count(dino, images, "float32", CPU)
    plain = Dino(load("smoke", SETTINGS), 10, CPU)
    assert counted == flops.count(plain, images, "float32", CPU)
    blocks = 2 * 12 * 24 * 24  # multiply-adds of two blocks of width 24, a token
    tokens = {32: 5, 16: 2}
    student = 2 * tokens[32] + 4 * tokens[16]
    least = 2 * blocks * (3 * student + 2 * tokens[32])
    assert least < counted < 2.5 * least


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("Tesla V100-SXM2-32GB", None),
    ],
)
def test_peaks_by_card(name: str, expected: float | None) -> None:
    assert flops.peak_of(name) == expected


def test_architectures_without_activation_checkpointing() -> None:
    from pathtrain.errors import ModelError

    with pytest.raises(ModelError, match="has no activation checkpointing"):
        checkpoint_activations(torch.nn.Linear(2, 2), ModelConfig(name="thing"))
