"""Networks in bfloat16: what is, what is not, who gets the gradients; they learn as under autocast."""

import numpy as np
import pytest
import torch
from helpers.toys import TINY

from pathtrain.distributed.ranks import ALONE
from pathtrain.methods.dino import Dino
from pathtrain.models import reduced
from pathtrain.recipes.load import load
from pathtrain.training import step
from pathtrain.training.optim import adamw

CPU = torch.device("cpu")
SETTINGS = (*TINY, "batch=8", "precision=bfloat16", "optim.warmup_steps=0")


class Batch:
    """Tiles' views that lie in memory."""

    def __init__(self, views: list[torch.Tensor]) -> None:
        self.views, self.tiles, self.wait = views, np.arange(len(views[0])), 0.0


def dino(*more: str, total: int = 10) -> Dino:
    torch.manual_seed(0)
    return Dino(load("smoke", [*SETTINGS, *more]), total, CPU)


def views(seed: int, batch: int = 8) -> list[torch.Tensor]:
    """Ten kinds of tiles, each view of one its colour and noise."""
    rng = torch.Generator().manual_seed(seed)
    colours = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    kinds = torch.randint(10, (batch,), generator=rng)
    return [
        colours[kinds][:, :, None, None] + torch.randn(batch, 3, size, size, generator=rng) / 2
        for size in [32, 32, 16, 16, 16, 16]
    ]


def test_all_is_reduced_but_the_last_layer_which_is_shared() -> None:
    method = dino()
    learner, guide = method.running
    assert learner is not method.student
    for own, copy in ((method.student, learner), (method.teacher, guide)):
        for (name, mine), theirs in zip(own.named_parameters(), copy.parameters(), strict=True):
            assert mine.dtype == torch.float32
            assert theirs.dtype == (torch.float32 if "last_" in name else torch.bfloat16), name
            assert (mine is theirs) == ("last_" in name)
            assert mine.requires_grad == theirs.requires_grad
    assert all(parameter.dtype == torch.float32 for parameter in method.encoder().parameters())
    assert dino("precision=float32").computing() == []


def test_refresh_brings_copies_up_to_date() -> None:
    method = dino()
    with torch.no_grad():
        for own, _ in method.computing():
            own.add_(0.5)
    assert not any(torch.equal(other, own.to(other)) for own, other in method.computing())
    method.refresh()
    assert all(torch.equal(other, own.to(other)) for own, other in method.computing())
    assert [other.requires_grad for _, other in method.computing()] == [
        own.requires_grad for own, _ in method.computing()
    ]


def test_losses_are_float32_also_under_autocast() -> None:
    method = dino()
    with torch.autocast("cpu", torch.bfloat16):
        outcome = method.loss(views(0), 0)
    plain = method.loss(views(0), 0)  # a reduced network looks at no autocast
    assert outcome.loss.dtype == outcome.each.dtype == outcome.means["center"].dtype == torch.float32
    assert outcome.loss.equal(plain.loss)


def test_blocks_add_up_in_bfloat16() -> None:
    method, seen = dino(), []
    for block in method.running[0]["backbone"].blocks:  # type: ignore[union-attr]
        block.register_forward_hook(lambda _module, given, found: seen.extend([given[0].dtype, found.dtype]))
    method.loss(views(0), 0)
    assert seen
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("size", [8, 3])
def test_gradients_are_float32_and_parts_add_up_in_it(size: int) -> None:
    """Against those of the reduced network itself, part by part."""
    method = dino(f"micro_batch={size}")
    recipe = load("smoke", [*SETTINGS, f"micro_batch={size}", "optim.clip=null"])
    batch = Batch(views(0))
    expected = [torch.zeros_like(own) for own, _ in method.computing()]
    for part in method.split(batch.views, size):
        method.loss(part, 0).loss.mul(len(part[0]) / 8).backward()
        for total, (_, other) in zip(expected, method.computing(), strict=True):
            total += other.grad.float() if other.grad is not None else 0
            other.grad = None
    for parameter in method.student.parameters():
        parameter.grad = None
    step.Stepper(method, adamw(method.student, recipe.optim), recipe, ALONE, 10).take(batch, 0, stop=False)
    for (own, other), total in zip(method.computing(), expected, strict=True):
        assert other.grad is None
        assert own.grad is not None
        assert own.grad.dtype == torch.float32
        assert torch.allclose(own.grad, total, rtol=1e-6, atol=0)


def curve(autocast: bool, precision: str, steps: int) -> list[float]:
    """The loss of each step: in bfloat16 from copies, or by autocast with the weights themselves."""
    more = (f"precision={precision}", "optim.lr=2e-4", "model.kwargs.depth=3", "dino.momentum.start=0.99")
    method = dino(*more, total=steps)
    if autocast:
        method.running, method._reduced = (method.student, method.teacher), False
    recipe = load("smoke", [*SETTINGS, *more])
    stepper = step.Stepper(method, adamw(method.student, recipe.optim), recipe, ALONE, steps)
    return [stepper.take(Batch(views(s)), s, stop=False).read().loss for s in range(steps)]


@pytest.mark.slow
def test_it_learns_as_under_autocast() -> None:
    """Over 200 steps, means of 20: within .02 nats of autocast's, which lie as near to float32's."""
    wide, cast, copies = (
        torch.tensor(curve(autocast, precision, 200)).view(10, 20).mean(dim=1)
        for autocast, precision in ((True, "float32"), (True, "bfloat16"), (False, "bfloat16"))
    )
    assert wide[0] > 3
    assert wide[-1] < 0.5  # it learns
    assert float((cast - wide).abs().max()) < 0.02
    assert float((copies - cast).abs().max()) < 0.02


def test_pairs_leave_out_what_is_shared() -> None:
    method = dino()
    found = reduced.pairs(method.student, method.running[0])
    assert len(found) == len(list(method.student.parameters())) - 2
