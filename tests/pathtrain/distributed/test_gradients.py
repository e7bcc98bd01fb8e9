"""Gradients of two ranks, averaged while the backward pass goes on; and weights that differ between ranks."""

from pathlib import Path

import pytest
import torch
from helpers import two_ranks
from helpers.toys import TINY
from torch import Tensor, nn
from torch.nn import functional

from pathtrain.distributed import gradients
from pathtrain.distributed.alike import check_alike
from pathtrain.distributed.gradients import Gradients
from pathtrain.distributed.ranks import ALONE, Ranks
from pathtrain.errors import TrainError
from pathtrain.methods.dino import Dino
from pathtrain.models import reduced
from pathtrain.recipes.load import load

CPU = torch.device("cpu")
WIDTH, PARTS = 16, 2


class Network(nn.Module):
    """Layers of which one is used twice, and one not at all."""

    FULL = ("full",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.unused = nn.Linear(3, 3)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.full = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.layers[0].weight.dtype)
        for layer in [*self.layers, self.layers[1]]:
            x = functional.gelu(layer(x))
        return (x.float() * self.full).square().mean()


def images(rank: int, part: int) -> Tensor:
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(10 * rank + part))


def step(network: Network, copy: Network, ranks: Ranks, uniform: bool) -> tuple[dict[str, Tensor], int]:
    """Gradients by name after a step of two parts, the second time (nothing may be left of the first), and
    how many buckets had gone before the backward pass was over."""
    made = Gradients(network.parameters(), reduced.pairs(network, copy), ranks, uniform)
    for _ in range(2):
        made.clear()
        for part in range(PARTS):
            with made.part(last=part == PARTS - 1):
                (copy(images(ranks.rank, part)) / PARTS).backward()
                early = made._next
        made.average()
        assert not any(hasattr(bucket, "_flat") for bucket in made._buckets), (
            "they would outlive the gradients"
        )
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}, early


def both(kind: str) -> tuple[Network, Network]:
    network = Network()
    return network, reduced.reduced(network) if kind == "bfloat16" else network


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    gradients.BUCKET = 2 * WIDTH * WIDTH  # some
    ranks = Ranks(rank, 2, CPU)
    found = {
        (kind, uniform): step(*both(kind), ranks, uniform)
        for kind in ("float32", "bfloat16")
        for uniform in (True, False)
    }
    torch.save(found, f"{folder}/{rank}.pt")
    network = Network()
    check_alike(network.state_dict(), ranks)
    with torch.no_grad():
        network.layers[2].bias[3] += 1e-6 * rank
    with pytest.raises(TrainError, match=r"2 ranks begin with different weights: 1 of 11 .* layers.2.bias;"):
        check_alike(network.state_dict(), ranks)
    torch.distributed.destroy_process_group()


def test_two_ranks(tmp_path: Path) -> None:
    two_ranks.run(__file__, "_rank", tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for kind in ("float32", "bfloat16"):
        own = []
        for rank in range(2):  # the plain sum of the parts
            _, copy = both(kind)
            total: dict[str, Tensor] = {}
            for part in range(PARTS):
                (copy(images(rank, part)) / PARTS).backward()
                for name, parameter in copy.named_parameters():
                    if parameter.grad is not None:
                        total[name] = total.get(name, torch.zeros(())) + parameter.grad.float()
                        parameter.grad = None
            own.append(total)
        for uniform in (True, False):
            (first, early), (second, _) = (each[kind, uniform] for each in found)
            assert (early > 1) == uniform
            assert first.keys() == second.keys() == own[0].keys()
            for name, grad in first.items():
                assert grad.dtype == torch.float32
                assert torch.equal(grad, second[name])
                mean = (own[0][name] + own[1][name]) / 2
                assert torch.allclose(grad, mean, rtol=1e-6, atol=1e-8), name


@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_compiled_blocks_send_their_gradients_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a group of one that takes itself for two: buckets are on their way before the first layer's turn."""
    monkeypatch.setattr(gradients, "BUCKET", 2000)
    recipe = load("smoke", [*TINY, "model.kwargs.depth=2", "precision=bfloat16"])
    method = Dino(recipe, 4, CPU)
    method.compile("aot_eager", blocks=True)
    made = Gradients(method.student.parameters(), method.computing(), Ranks(0, 2, CPU), method.uniform)
    started: list[int] = []

    def watch(_module: nn.Module, _given: object, found: Tensor) -> None:
        found.register_hook(lambda _grad: started.append(made._next))

    method.running[0]["backbone"].pos_drop.register_forward_hook(watch)
    views = [torch.randn(2, 3, side, side) for side in [32, 32, 16, 16, 16, 16]]
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/one", rank=0, world_size=1)
    try:
        with made.part(last=True):
            method.loss(views, 0).loss.backward()
        made.average()
    finally:
        torch.distributed.destroy_process_group()
    assert 0 < started[0] < len(made._buckets)


def test_one_rank_gets_its_own() -> None:
    for kind in ("float32", "bfloat16"):
        network, copy = both(kind)
        found, early = step(network, copy, ALONE, True)
        assert early == 0
        assert "unused.weight" not in found
        assert all(grad.dtype == torch.float32 for grad in found.values())
        assert all(p.grad is None for own, p in reduced.pairs(network, copy))
