"""Packed transformers against timm's own: features, gradients, masked patches, and stochastic depth."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers import two_ranks
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pathtrain.errors import ModelError
from pathtrain.models import reduced
from pathtrain.models.packed import as_packed, drop_alike, tokens
from pathtrain.models.packed_blocks import PackedBlock
from pathtrain.models.positions import as_dino

SMALL = {"depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 0, "dynamic_img_size": True}
PLAIN: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers": {"reg_tokens": 3, "no_embed_class": True, "init_values": 0.1},
    "norms": {"qk_norm": True, "scale_attn_norm": True, "scale_mlp_norm": True, "class_token": False}
    | {"global_pool": "avg"},
    "swiglu": {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU, "init_values": 0.5},
    "pre": {"pre_norm": True, "norm_layer": nn.LayerNorm},
}


def plain(**more: Any) -> VisionTransformer:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, **{**SMALL, **more})
    for parameter in model.parameters():  # LayerScale and biases too, so that all of it is seen
        nn.init.normal_(parameter, std=0.1)
    return model


def dinov3(**more: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_dinov3", **SMALL, **more)


def images() -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(3, 3, 64, 64, generator=rng), torch.randn(5, 3, 32, 48, generator=rng)]


def masks() -> Tensor:
    return torch.rand(3, 16, generator=torch.Generator().manual_seed(2)) < 0.4


def gradients(model: nn.Module, found: list[Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) for x in found]
    sum((x * w).sum() for x, w in zip(found, weights, strict=True)).backward()  # type: ignore[union-attr]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_features_and_gradients_are_timms(kind: str, checkpointed: bool) -> None:
    theirs = plain(**PLAIN[kind])
    ours = copy.deepcopy(theirs)
    as_packed(ours)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert isinstance(copy.deepcopy(ours).blocks[0], PackedBlock)
    ours.set_grad_checkpointing(checkpointed)
    expected = [theirs.forward_features(each) for each in images()]
    found = tokens(ours, images())
    for mine, other in zip(found, expected, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
    own, others = gradients(ours, found), gradients(theirs, expected)
    assert own.keys() == others.keys()
    for name, grad in own.items():
        assert torch.allclose(grad, others[name], rtol=1e-4, atol=1e-4), name
    assert torch.allclose(ours(images()[0]), theirs(images()[0]), atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "registers"])
def test_masked_patches_by_hand(kind: str) -> None:
    model = plain(**PLAIN[kind])
    token = torch.randn(24)
    large, small = images()
    patches = model.patch_embed(large).clone()
    for image, row, column in masks().view(3, 4, 4).nonzero().tolist():
        patches[image, row, column] = token
    x = model._pos_embed(patches)
    for block in model.blocks:
        x = x + block.ls1(block.attn(block.norm1(x)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
    as_packed(model)
    found = tokens(model, [large, small], masks(), token)
    assert torch.allclose(found[0], model.norm(x), atol=1e-5)
    assert torch.allclose(found[1], model.forward_features(small), atol=1e-5)
    with pytest.raises(ValueError, match="go together"):
        tokens(model, [large], masks())


def test_the_mask_token_learns_and_patches_below_it_do_not() -> None:
    model = plain()
    as_packed(model)
    token = nn.Parameter(torch.zeros(1, 24))
    large = images()[0].requires_grad_()
    all_ = torch.ones(3, 16, dtype=torch.bool)
    tokens(model, [large], all_, token)[0].square().sum().backward()
    assert token.grad is not None
    assert float(token.grad.abs().max()) > 0
    assert large.grad is None or float(large.grad.abs().max()) == 0


@pytest.mark.parametrize("drop_by", ["sample", "subset"])
def test_stochastic_depth_in_expectation_and_by_sample(drop_by: Any) -> None:
    """A block whose attention adds 1 to number 0, and whose MLP to number 1: it shows what a sample kept."""
    model = plain(depth=1)
    as_packed(model, drop_by)
    block = model.blocks[0].train()
    block.drop_path1 = block.drop_path2 = timm.layers.DropPath(0.4)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    block.attn.proj.bias.data[0] = block.mlp.fc2.bias.data[1] = 1.0
    shapes, x, seen = ((5, 3), (10, 2)), torch.zeros(1, 35, 24, requires_grad=True), []
    for seed in range(300):
        torch.manual_seed(seed)
        out = block(x, shapes=shapes)
        groups = [
            part.view(*shape, 24)[..., :2] for part, shape in zip(out.split([15, 20], 1), shapes, strict=True)
        ]
        assert all(torch.equal(each, each[:, :1].expand_as(each)) for each in groups)  # all of a sample
        seen.append(torch.cat([each[:, 0] for each in groups]).detach())
    found = torch.stack(seen)  # draws, samples, branches
    assert torch.allclose(found.mean(dim=0), torch.ones(15, 2), atol=0.25)
    assert torch.allclose(found.unique(), torch.tensor([0.0, 1 / 0.6]))
    kept = found > 0
    assert not torch.equal(kept[..., 0], kept[..., 1])
    assert not torch.equal(kept[:, :5], kept[:, 5:10])
    few = [kept[:, :5].sum(dim=1), kept[:, 5:].sum(dim=1)]
    exactly = all(bool((count == number).all()) for count, number in zip(few, (3, 6), strict=True))
    assert exactly == (drop_by == "subset")
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


def test_blocks_have_the_same_rate_before_and_after_they_are_packed() -> None:
    for first in (True, False):
        model = plain(drop_path_rate=0.4, depth=3)
        if first:
            drop_alike(model, 0.4)
        as_packed(model, "subset")
        if not first:
            drop_alike(model, 0.4)
        rates = [[block.drop_path1.drop_prob, block.drop_path2.drop_prob] for block in model.blocks]
        assert rates == [[0.4, 0.4]] * 3
    eva = dinov3()
    drop_alike(eva, 0.1)
    assert {block.drop_path2.drop_prob for block in eva.blocks} == {0.1}  # type: ignore[union-attr]
    parallel = plain(block_fn=timm.models.vision_transformer.ParallelThingsBlock)
    drop_alike(parallel, 0.0)
    with pytest.raises(ModelError, match="drop_path_depth=even"):
        drop_alike(parallel, 0.1)


@pytest.mark.parametrize("drop_by", ["sample", "subset"])
def test_activations_computed_again_drop_the_same(drop_by: Any) -> None:
    found = []
    for checkpointed in (False, True):
        model = plain(drop_path_rate=0.5)
        as_packed(model, drop_by)
        model.train().set_grad_checkpointing(checkpointed)
        torch.manual_seed(1)
        found.append(gradients(model, tokens(model, images())))
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], rtol=1e-5, atol=1e-6), name


def test_a_subset_is_computed_alone_and_gradients_are_those_of_what_was_kept() -> None:
    """Against the same draws written out: gradients of weights too."""
    model = plain(depth=1)
    model.blocks[0].drop_path1 = timm.layers.DropPath(0.5)
    model.blocks[0].drop_path2 = timm.layers.DropPath(0.25)
    ours = copy.deepcopy(model)
    as_packed(ours, "subset")
    sizes = []
    ours.blocks[0].attn.qkv.register_forward_pre_hook(lambda _m, given: sizes.append(given[0].shape[1]))
    torch.manual_seed(5)
    found = tokens(ours.train(), images())
    assert sizes == [1 * 17 + 2 * 7]
    torch.manual_seed(5)
    block = model.blocks[0]
    keep = [
        [torch.randperm(n)[:k] for n, k in zip((3, 5), counts, strict=True)] for counts in ((1, 2), (2, 3))
    ]
    expected = []
    for number, group in enumerate(images()):
        x = model._pos_embed(model.patch_embed(group))
        for branch, rows in (
            (lambda x: block.attn(block.norm1(x)), keep[0][number]),
            (lambda x: block.mlp(block.norm2(x)), keep[1][number]),
        ):
            added = torch.zeros_like(x)
            added[rows] = branch(x)[rows] * len(x) / len(rows)
            x = x + added
        expected.append(model.norm(x))
    for mine, other in zip(found, expected, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
    own, others = gradients(ours, found), gradients(model, expected)
    for name, grad in own.items():
        assert torch.allclose(grad, others[name], rtol=1e-4, atol=1e-4), name


def test_eva_kinds_run_group_by_group() -> None:
    theirs = dinov3(drop_path_rate=0.3).eval()
    ours = copy.deepcopy(theirs)
    as_packed(ours, "subset")
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for mine, other in zip(tokens(ours, images()), map(theirs.forward_features, images()), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)
    token = torch.randn(24, requires_grad=True)
    patches = theirs.patch_embed(images()[0])
    handle = theirs.patch_embed.register_forward_hook(
        lambda *_: torch.where(masks().view(3, 4, 4, 1), token, patches)
    )
    expected = theirs.forward_features(images()[0])
    handle.remove()
    found = tokens(ours, images(), masks(), token)
    assert torch.allclose(found[0], expected, atol=1e-6)
    assert torch.allclose(tokens(ours, images())[1], found[1])
    own, others = gradients(ours, found[:1]), gradients(theirs, [expected])
    for name, grad in own.items():
        assert torch.allclose(grad, others[name], rtol=1e-4, atol=1e-5), name
    means = []
    for seed in range(200):
        torch.manual_seed(seed)
        means.append(ours.train().blocks[1](torch.ones(4, 21, 24)).detach())
    assert torch.allclose(torch.stack(means).mean(0), ours.eval().blocks[1](torch.ones(4, 21, 24)), atol=0.02)


def test_what_cannot_be_masked_or_dropped_is_said() -> None:
    with pytest.raises(ModelError, match="SwinTransformer of timm whose patches"):
        as_packed(timm.create_model("swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1, 1, 1)))
    with pytest.raises(ModelError, match="patch_drop_rate"):
        as_packed(plain(patch_drop_rate=0.5))
    parallel = plain(block_fn=timm.models.vision_transformer.ParallelScalingBlock, drop_path_rate=0.1)
    with pytest.raises(ModelError, match="drop_path_by=subset"):
        as_packed(copy.deepcopy(parallel), "subset")
    as_packed(parallel)
    with torch.no_grad():
        found = tokens(parallel.eval(), images(), masks(), torch.zeros(24))
    assert [x.shape for x in found] == [(3, 17, 24), (5, 7, 24)]


@pytest.mark.parametrize("drop_by", [pytest.param("sample", marks=pytest.mark.slow), "subset"])
def test_compiled_and_in_bfloat16(drop_by: Any) -> None:
    model = plain(drop_path_rate=0.4, reg_tokens=2)
    as_dino(model, [64, 32, 48])
    as_packed(model, drop_by)
    copied = reduced.reduced(model)
    assert isinstance(copied.blocks[1], PackedBlock)
    assert copied.blocks[1].drop_by == drop_by
    given = [x.bfloat16() for x in images()]
    token = torch.zeros(24, dtype=torch.bfloat16)
    found = tokens(copied.train(), given, masks(), token)
    assert {x.dtype for x in found} == {torch.bfloat16}
    compiled = torch.compile(tokens, backend="aot_eager", dynamic=False, fullgraph=True)
    for training in (True, False):
        out = compiled(model.train(training), images(), masks(), torch.zeros(24))
        assert out[0].isfinite().all()
        if not training:
            assert torch.allclose(out[0], tokens(model, images(), masks(), torch.zeros(24))[0], atol=1e-5)


class Whole(nn.ModuleDict):
    """What is sharded: a forward pass that goes through ``tokens``."""

    def forward(self, groups: list[Tensor]) -> list[Tensor]:
        return tokens(self["backbone"], groups, masks(), self["backbone"].cls_token[0])


@pytest.mark.slow
def test_sharded_on_two_ranks(tmp_path: Path) -> None:
    two_ranks.run(__file__, "_rank", tmp_path)
    network = Whole({"backbone": plain()})
    as_packed(network["backbone"])  # type: ignore[arg-type]
    found = network(images())
    own = gradients(network, found)
    for rank in range(2):
        tokens_, grads = torch.load(tmp_path / f"{rank}.pt")
        for mine, other in zip(tokens_, found, strict=True):
            assert torch.allclose(mine, other, atol=1e-5)
        for name, grad in own.items():
            assert torch.allclose(grads[name], grad, rtol=1e-4, atol=1e-4), name


def _rank(rank: int, folder: str) -> None:
    from pathtrain.distributed.fsdp import compile_blocks, shard, whole

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    network = Whole({"backbone": plain()})
    as_packed(network["backbone"])  # type: ignore[arg-type]
    shard([network])
    compile_blocks([network], "aot_eager")
    found = network(images())
    grads = gradients(network, found)
    torch.save(([x.detach() for x in found], whole(grads)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
