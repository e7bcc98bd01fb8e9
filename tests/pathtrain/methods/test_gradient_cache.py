"""Gradients of the cut graph against those of the plain one, and against one pass over everything."""

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers import two_ranks
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from pathtrain.data.layout import Layout
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.gradient_cache import cached_loss, chunk_size
from pathtrain.models.grid_vit import GridViT, region_vectors, slide_vector
from pathtrain.recipes.hierarchical import StageConfig

CPU = torch.device("cpu")
CHUNK = 16
STAGE = StageConfig(dim=16, depth=2, heads=2, dropout=0.1, drop_path=0.2)


def network(dtype: torch.dtype) -> nn.ModuleDict:
    """Three small stages with dropout and stochastic depth, and two tasks' heads."""
    torch.manual_seed(0)
    stage1 = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=8,
        depth=2,
        embed_dim=12,
        num_heads=2,
        num_classes=0,
        proj_drop_rate=0.1,
        attn_drop_rate=0.1,
        drop_path_rate=0.2,
    )
    stages = {"stage1": stage1, "stage2": GridViT(STAGE, 12), "stage3": GridViT(STAGE, 16)}
    return nn.ModuleDict({**stages, "tasks": nn.Linear(16, 5)}).to(dtype).train()


def slide(count: int, dtype: torch.dtype) -> tuple[Tensor, Layout]:
    """Tiles of a slide with gaps, the background last."""
    rng = np.random.default_rng(count)
    cells = rng.choice(625, count, replace=False)
    layout = Layout.of(np.arange(count), cells % 25, cells // 25, side=4)
    return torch.from_numpy(rng.random((count + 1, 3, 16, 16))).to(dtype), layout


def loss_of(net: nn.ModuleDict, layout: Layout, save_memory: bool) -> Any:
    def loss(vectors: Tensor) -> Tensor:
        regions = region_vectors(net["stage2"], vectors, layout, 3, CPU, save_memory)
        scores = net["tasks"](slide_vector(net["stage3"], regions, layout, save_memory))
        return nn.functional.cross_entropy(scores[None].float().to(scores.dtype), torch.tensor([2]))

    return loss


def gradients(net: nn.ModuleDict) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def plain(net: nn.ModuleDict, pixels: Tensor, layout: Layout) -> tuple[Tensor, dict[str, Tensor]]:
    """One graph through everything: the same chunks, so that dropout draws the same."""
    net.zero_grad(set_to_none=True)
    vectors = torch.cat([net["stage1"](part) for part in pixels.split(CHUNK)])
    loss = loss_of(net, layout, False)(vectors)
    loss.backward()
    return loss.detach(), gradients(net)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_gradients_equal_those_of_the_plain_graph(count: int, dtype: torch.dtype, bound: float) -> None:
    net = network(dtype)
    pixels, layout = slide(count, dtype)
    torch.manual_seed(5)
    expected_loss, expected = plain(net, pixels, layout)
    after = torch.rand(3)
    net.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    loss = cached_loss(net["stage1"], pixels, loss_of(net, layout, True), CHUNK, CPU)
    assert torch.equal(torch.rand(3), after), "the generator goes on as after the plain graph"
    now = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), now)
    found = gradients(net)
    assert found.keys() == expected.keys() == dict(net.named_parameters()).keys()
    torch.testing.assert_close(loss.detach(), expected_loss, rtol=bound, atol=bound)
    for name in expected:
        scale = max(1.0, float(expected[name].abs().max()))
        assert float((found[name] - expected[name]).abs().max()) <= bound * scale, name
    # of whole blocks, stochastic depth may leave nothing
    assert float(found["stage1.patch_embed.proj.weight"].abs().max()) > 0


def test_without_the_replay_the_gradients_would_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(torch.float64)
    pixels, layout = slide(20, torch.float64)
    torch.manual_seed(5)
    _, expected = plain(net, pixels, layout)
    net.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    monkeypatch.setattr("pathtrain.models.replay.Random.replay", lambda self, device: None)
    cached_loss(net["stage1"], pixels, loss_of(net, layout, True), CHUNK, CPU).backward()
    found = gradients(net)["stage1.blocks.0.attn.qkv.weight"]
    assert not torch.allclose(found, expected["stage1.blocks.0.attn.qkv.weight"], rtol=1e-3)


def test_gradients_add_to_those_that_are_there() -> None:
    net = network(torch.float64).eval()
    pixels, layout = slide(7, torch.float64)
    _, once = plain(net, pixels, layout)
    net.zero_grad(set_to_none=True)
    for _ in range(2):
        cached_loss(net["stage1"], pixels, loss_of(net, layout, True), 3, CPU).backward()
    for name, grad in gradients(net).items():
        torch.testing.assert_close(grad, 2 * once[name], rtol=1e-9, atol=1e-12)


def test_bfloat16() -> None:
    net = network(torch.float32).eval()
    pixels, layout = slide(40, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = torch.cat([net["stage1"](part) for part in pixels.split(CHUNK)])
        loss = loss_of(net, layout, False)(vectors)
    loss.backward()
    expected = gradients(net)
    net.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
        found_loss = cached_loss(net["stage1"], pixels, loss_of(net, layout, True), CHUNK, CPU)
    found_loss.backward()
    found = gradients(net)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found_loss.detach(), loss.detach(), rtol=1e-2, atol=1e-2)
    for name, grad in expected.items():
        error = float((found[name] - grad).norm() / grad.norm().clamp(min=1e-6))
        assert error < 0.05, (name, error)


def test_a_frozen_encoder_gets_no_gradients() -> None:
    net = network(torch.float32)
    pixels, layout = slide(7, torch.float32)
    cached_loss(net["stage1"], pixels, loss_of(net, layout, True), 3, CPU, trained=False).backward()
    assert all(p.grad is None for p in net["stage1"].parameters())
    assert all(p.grad is not None for p in net["stage2"].parameters())


def test_the_chunk_on_the_cpu_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    net = network(torch.float32)["stage1"]
    torch.set_rng_state(before)
    assert chunk_size(net, net.parameters(), torch.zeros(1, 3, 16, 16), CPU) == 32
    assert torch.equal(torch.get_rng_state(), before)


def live_peak(call: Callable[[], Any]) -> int:
    """Bytes of the tensors that a call had at one time, beyond those that were there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    waiting = profiled.profiler.kineto_results.experimental_event_tree()
    changes = []
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == _EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    return max(accumulate(size for _, size in sorted(changes, key=lambda change: change[0])))


def test_memory_does_not_grow_with_the_tiles() -> None:
    """Beyond pixels and one copy of the vectors; that of the plain graph does."""
    net = network(torch.float32)
    beyond: dict[str, list[int]] = {"cached": [], "plain": []}
    for count in (100, 100, 600):  # what is made once is made at first
        pixels, layout = slide(count, torch.float32)
        of = loss_of(net, layout, True)
        net.zero_grad(set_to_none=True)
        peak = live_peak(lambda: cached_loss(net["stage1"], pixels, of, CHUNK, CPU).backward())  # noqa: B023
        beyond["cached"].append(peak - (count + 1) * 12 * 4)
        beyond["plain"].append(live_peak(lambda: plain(net, pixels, layout)))  # noqa: B023
    assert beyond["cached"][2] < 1.05 * beyond["cached"][1]
    assert beyond["plain"][2] > 2 * beyond["plain"][1]


def _rank(rank: int, folder: str) -> None:
    """One rank: its own slide, then the exchange; writes its gradients."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    net = network(torch.float64)
    pixels, layout = slide((7, 300)[rank], torch.float64)
    torch.manual_seed(10 + rank)
    cached_loss(net["stage1"], pixels, loss_of(net, layout, True), CHUNK, CPU).backward()
    none, one = (nn.Parameter(torch.ones(2)) for _ in range(2))
    if rank:
        one.grad = torch.tensor([3.0, 5.0])
    Ranks(rank, 2, CPU).average_gradients([*net.parameters(), none, one])
    assert none.grad is None, "of no rank"
    assert one.grad is not None
    assert one.grad.tolist() == [1.5, 2.5], "of one rank"
    torch.save(gradients(net), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_with_different_numbers_of_tiles(tmp_path: Path) -> None:
    two_ranks.run(__file__, "_rank", tmp_path)
    parts = []
    for rank, count in enumerate((7, 300)):
        net = network(torch.float64)
        torch.manual_seed(10 + rank)
        parts.append(plain(net, *slide(count, torch.float64))[1])
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, grad in parts[0].items():
        expected = (grad + parts[1][name]) / 2
        assert float((first[name] - expected).abs().max()) < 1e-10, name
        assert torch.equal(first[name], second[name])
