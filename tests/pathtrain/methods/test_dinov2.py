"""DINOv2: its losses put together from plain parts, and the same for any number of parts and ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import two_ranks
from helpers.toys import TINY, moved
from torch import Tensor
from torch.nn import functional

from pathtrain.data.block_masks import masks
from pathtrain.distributed.ranks import ALONE, Ranks
from pathtrain.losses.dino import dino_loss
from pathtrain.losses.regularisers import kde, koleo
from pathtrain.methods.dinov2 import Dinov2
from pathtrain.methods.dinov2_setup import MaskedBatch
from pathtrain.methods.masked import Masked
from pathtrain.recipes.load import load
from pathtrain.training import flops
from pathtrain.training.optim import adamw
from pathtrain.training.step import Stepper

CPU = torch.device("cpu")
BATCH, TOTAL, SIDE = 8, 10, 4
SMALL = (
    *TINY,
    "model.kwargs={img_size: 32, patch_size: 8, depth: 2, embed_dim: 24, num_heads: 2}",
    f"batch={BATCH}",
    "views.locals.count=2",
    "dino.head={out_dim: 32, hidden_dim: 16, bottleneck_dim: 8, layers: 3, norm_last_layer: false}",
    "ibot.head={out_dim: 40, hidden_dim: 16, bottleneck_dim: 8, layers: 2, norm_last_layer: false}",
    "dino.teacher_temp={start: 0.04, end: 0.07, steps: 10}",
    "dino.drop_path=0",
    "dino.freeze_last_layer_steps=0",
)


def recipe(*more: str) -> Any:
    return load("midnight-tiny", [*SMALL, *more])


def method(*more: str, made: type[Dinov2] = Dinov2) -> Dinov2:
    torch.manual_seed(0)
    found = made(recipe(*more), TOTAL, CPU)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():  # a teacher of its own, and scores that differ
        for parameter in found.teacher.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.05)
        found.student["mask_token"].token.add_(torch.randn(1, 24, generator=rng))
    return found


def batch(first: int = 0, step: int = 0, world: int = 1) -> Masked:
    """That of rank ``first`` of ``world``: every world-th tile."""
    rng = torch.Generator().manual_seed(step)
    images = [torch.randn(BATCH, 3, side, side, generator=rng)[first::world] for side in (32, 32, 16, 16)]
    positions = np.arange(step * BATCH + first, (step + 1) * BATCH, world)
    return Masked(
        images, torch.from_numpy(masks(positions, BATCH, 2, (SIDE, SIDE), 0.5, (0.1, 0.5), False, 0))
    )


def outcome(of: Dinov2, views: Masked, size: int = BATCH, step: int = 3) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a batch in parts of ``size`` tiles."""
    of.student.zero_grad()
    total = torch.zeros(())
    for part in of.prepare(of.split(views, size), step, ALONE):
        found = of.loss(part, step)
        share = len(found.each) / BATCH
        (found.loss * share).backward()
        total += found.loss.detach() * share
    return total, [p.grad.clone() for p in of.student.parameters() if p.grad is not None]


def test_its_losses_are_those_of_views_sent_through_one_by_one() -> None:
    """Without Sinkhorn and Packed: timm's own forward passes, and masks by hand."""
    own = method("dino.centring=mean", "regulariser.weight=0.3", "ibot.weight=0.7")
    views = batch()
    center, patch_center = torch.randn(32) / 10, torch.randn(40) / 10
    own.center, own.patch_center = center, patch_center
    temp = own.schedule(3)["teacher_temp"]

    def tokens(network: Any, images: Tensor, mask: Tensor | None = None) -> Tensor:
        body = network["backbone"]
        x = body.patch_embed(images)
        if mask is not None:
            x = torch.where(mask.view(*x.shape[:3], 1), network["mask_token"].token, x)
        x = body.norm_pre(body.patch_drop(body._pos_embed(x)))
        for block in body.blocks:
            x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return body.norm(x)

    large = [tokens(own.student, views.views[n], views.masks[:, n]) for n in (0, 1)]
    seen = large + [tokens(own.student, view) for view in views.views[2:]]
    student = torch.stack([own.student["head"](x[:, 0]) for x in seen])
    taught = [tokens(own.teacher, view) for view in views.views[:2]]
    teacher = torch.stack([own.teacher["head"](x[:, 0]) for x in taught])
    tile = dino_loss(student, teacher, center, 0.1, temp)
    patch = torch.zeros(())
    for n in (0, 1):
        for tile_number in range(BATCH):
            mask = views.masks[tile_number, n]
            if mask.any():
                p = functional.log_softmax(
                    own.student["patch_head"](large[n][tile_number, 1:][mask]) / 0.1, dim=-1
                )
                q = own.teacher["patch_head"](taught[n][tile_number, 1:][mask]) - patch_center
                patch = patch - (functional.softmax(q / temp, dim=-1) * p).sum(-1).mean() / (2 * BATCH)
    spread = kde(large[0][:, 0], 5.0) + kde(large[1][:, 0], 5.0)
    (part,) = own.prepare([views], 3, ALONE)
    found = own.loss(part, 3)
    assert torch.allclose(found.means["tile_loss"], tile, rtol=1e-5)
    assert torch.allclose(found.means["patch_loss"], patch, rtol=1e-5)
    assert torch.allclose(found.means["regulariser"], spread, rtol=1e-5)
    assert torch.allclose(found.loss, tile + 0.7 * patch + 0.3 * spread, rtol=1e-5)
    assert torch.allclose(found.means["center"], teacher.mean(dim=(0, 1)), atol=1e-6)


KINDS = (
    ("dino.centring=sinkhorn", "regulariser.kind=none"),
    ("dino.centring=mean", "regulariser={kind: koleo, weight: 1, kappa: 1, group: 4}"),
    ("dino.centring=sinkhorn", "regulariser={kind: kde, weight: 1, kappa: 5, group: null}"),
    ("dino.centring=sinkhorn", "regulariser={kind: uniformity, weight: 1, kappa: 4, group: 2}"),
    ("ibot.head=null", "ibot.fill=true", "regulariser={kind: kde, weight: 1, kappa: 5, group: 4}"),
)


@pytest.mark.parametrize("more", KINDS)
@pytest.mark.parametrize("size", [4, 3, 1])
def test_parts_give_what_the_whole_batch_gives(more: tuple[str, ...], size: int) -> None:
    own = method(*more)
    (whole, grads), (parts, other) = outcome(own, batch()), outcome(own, batch(), size)
    assert torch.allclose(whole, parts, rtol=1e-5)
    assert len(grads) == len(other)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(grads, other, strict=True))


def test_the_second_pass_draws_what_the_first_drew() -> None:
    """With drop path, the regulariser's pull belongs to the very vectors that go back."""
    more = ("dino.drop_path=0.5", "regulariser={kind: koleo, weight: 1, kappa: 1, group: null}")
    own = method(*more)
    torch.manual_seed(0)
    parts = own.prepare(own.split(batch(), 4), 3, ALONE)
    seen = []
    for part in parts:
        assert part.random is not None
        part.random.replay(CPU)
        tokens, _ = own.see(part.views, part.picked)
        seen.append(tokens[:8].view(2, 4, -1))
    whole = torch.cat(seen, dim=1)
    assert torch.allclose(parts[0].pull[0], koleo(whole[0]) + koleo(whole[1]), rtol=1e-5)  # type: ignore[index]


@pytest.mark.parametrize(("group", "size"), [("null", 3), ("4", 3), ("4", 1)])
def test_operations_of_a_few_tiles_are_counted_whatever_a_group_is(group: str, size: int) -> None:
    """As before the first step on a card; a second pass, of parts without whole groups, is none of them."""
    few = batch().split(size)[0]
    found = method(f"regulariser={{kind: kde, weight: 1, kappa: 5, group: {group}}}")
    plain = method("regulariser.kind=none")
    counted, least = (flops.count(own, few, "float32", CPU) for own in (found, plain))
    assert least <= counted < 1.01 * least


def steps(ranks: Ranks, *more: str, size: int | None = None) -> tuple[dict[str, Tensor], list[float]]:
    """Weights after some steps, the gradients of the second one, and each step's loss.

    The first step's rate is 0, so that these gradients are of the same weights everywhere.
    """
    own, rec = method(*more), recipe(*more)
    rec = rec.model_copy(update={"micro_batch": size})
    stepper = Stepper(own, adamw(own.student, rec.optim), rec, ranks, TOTAL)
    found: list[float] = []
    gradients: dict[str, Tensor] = {}
    for number in range(3):
        views = batch(ranks.rank, number, ranks.world)
        tiles = np.arange(len(views.views[0]))
        found.append(stepper.take(MaskedBatch(views, tiles, 0.0), number, False).read().loss)
        if number == 1:
            each = {name: p.grad for name, p in own.student.named_parameters() if p.grad is not None}
            gradients = {f"gradient.{name}": moved(name, grad.clone()) for name, grad in each.items()}
    named = {name: moved(name, p.detach()) for name, p in own.student.named_parameters()}
    return named | gradients | {f"teacher.{name}": p for name, p in own.teacher.named_parameters()}, found


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    ranks = Ranks(rank, 2, CPU)
    found = {(more, size): steps(ranks, *more, size=size) for more in KINDS for size in (None, 2)}
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_give_what_one_gives(tmp_path: Path) -> None:
    two_ranks.run(__file__, "_rank", tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for (more, size), (weights, losses) in found[0].items():
        other, again = found[1][more, size]
        assert losses == again
        assert all(torch.equal(weight, other[name]) for name, weight in weights.items())
        one, expected = steps(ALONE, *more)
        assert losses == pytest.approx(expected, rel=1e-5)
        for name, weight in weights.items():
            # weights move by 5e-5, whatever a gradient's size
            near = {"rtol": 1e-3, "atol": 1e-6} if name.startswith("gradient.") else {"atol": 3e-5}
            assert torch.allclose(weight, one[name], **near), (more, size, name)


def test_bfloat16_computes_what_must_be_in_float32() -> None:
    own, plain = method("precision=bfloat16"), method()
    own.refresh()
    (part,) = own.prepare([batch()], 3, ALONE)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = own.loss(part, 3)
    (whole,) = plain.prepare([batch()], 3, ALONE)
    full = plain.loss(whole, 3)
    assert reduced.loss.dtype == part.teacher.dtype == torch.float32
    for name in ("tile_loss", "patch_loss", "regulariser"):
        assert reduced.means[name].dtype == torch.float32
        assert torch.allclose(reduced.means[name], full.means[name], rtol=0.03)


def test_without_a_masked_patch_there_is_no_patch_loss() -> None:
    own = method("dino.centring=mean")
    views = replace(batch(), masks=torch.zeros(BATCH, 2, SIDE * SIDE, dtype=torch.bool))
    (part,) = own.prepare([views], 0, ALONE)
    found = own.loss(part, 0)
    found.loss.backward()
    assert found.means["patch_loss"] == 0
    before = own.patch_center.clone()
    own.update(found.means, 0)
    assert torch.equal(own.patch_center, before)
    assert own.center.abs().sum() > 0


def test_mean_centres_follow_the_batch() -> None:
    own = method("dino.centring=mean", "dino.center_momentum=0.5")
    (part,) = own.prepare([batch()], 0, ALONE)
    found = own.loss(part, 0)
    teacher = own.last_layer("patch_head", part.patches)
    own.update(found.means, 0)
    assert torch.allclose(own.patch_center, teacher.mean(dim=0) / 2, atol=1e-6)


def test_sinkhorn_uses_outputs_alike() -> None:
    own = method()
    (part,) = own.prepare([batch()], 0, ALONE)
    found = own.loss(part, 0)
    assert found.means["tile_outputs"].max() < 3 / 32
    assert own.figures(found.means)["tile_outputs_used"] > 25


def test_the_last_layers_of_both_heads_are_frozen_at_first() -> None:
    own = method("dino.freeze_last_layer_steps=2")
    assert [len(own.frozen(step)) for step in range(4)] == [4, 4, 0, 0]


def test_the_regulariser_rises() -> None:
    config = recipe("regulariser.rise=[0.1, 0.5]", "regulariser.weight=2").regulariser
    assert [config.weight_at(step, 100) for step in (0, 9, 10, 30, 50, 99)] == [0, 0, 0, 1, 2, 2]
    assert recipe("regulariser.kind=none").regulariser.weight_at(50, 100) == 0


def test_state_round_trip() -> None:
    own, other = method(), method("seed=1")
    other.load_state(own.state())
    (one,), (two,) = own.prepare([batch()], 1, ALONE), other.prepare([batch()], 1, ALONE)
    assert torch.equal(own.loss(one, 1).loss, other.loss(two, 1).loss)


@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_compiled_it_gives_the_same() -> None:
    own = method("dino.drop_path=0")
    plain, grads = outcome(own, batch())
    own.compile("aot_eager")
    for step in (0, 1):  # another number of masked patches
        found, other = outcome(own, batch(step=step))
        if step == 0:
            assert torch.allclose(plain, found, rtol=1e-5)
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, other, strict=True))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("regulariser.group=3", "regulariser.group=3 does not divide batch=8"),
        ("ibot.ratio=[0.5, 0.1]", "ratio needs the smaller value first"),
        ("regulariser.rise=[0.5, 0.1]", "rise needs the smaller value first"),
        ("batch=1", "batch must be at least 2"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    from pathtrain.errors import RecipeError

    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        recipe(override)
