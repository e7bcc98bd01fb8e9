"""Several cards, or one as a group: NCCL, and FSDP's parts put together; gloo in a rehearsal."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from gpu.test_training import SETTINGS

from pathtrain.distributed.alike import check_alike
from pathtrain.distributed.fsdp import is_sharded, shard, whole
from pathtrain.distributed.gradients import Gradients
from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.dino import Dino
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe
from pathtrain.runs import checkpoint


def free_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


@contextmanager
def group(device: torch.device) -> Iterator[Ranks]:
    """A group of one process."""
    backend = {"cuda": "nccl", "cpu": "gloo"}[device.type]
    address = f"tcp://127.0.0.1:{free_port()}"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=address, rank=0, world_size=1)
    try:
        yield Ranks(0, 1, device, dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()


def drawn(recipe: Recipe, device: torch.device) -> list[torch.Tensor]:
    """The views of four tiles."""
    rng, config = torch.Generator().manual_seed(1), recipe.views
    sides = [config.globals.size] * config.globals.count + [config.locals.size] * config.locals.count
    return [torch.randn(4, 3, side, side, generator=rng).to(device) for side in sides]


def gradients(method: Dino, views: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    method.student.zero_grad(set_to_none=True)
    method.loss(method.split(views, 4)[0], 0).loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in method.student.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # its views are not changed in place
def test_a_group_of_one_sums_gathers_and_shards(device: torch.device) -> None:
    """What `pretrain` does over several cards, in the same calls."""
    recipe = load("smoke", [*SETTINGS, "precision=float32", "compile=false"])
    methods = []
    for _ in range(2):
        torch.manual_seed(0)
        methods.append(Dino(recipe, 4, device))
    plain, method = methods
    views = drawn(recipe, device)
    expected = gradients(plain, views)
    with group(device) as ranks:
        values = torch.arange(5.0, device=device)
        dist.all_reduce(values)
        assert values.tolist() == [0, 1, 2, 3, 4]
        said: list[object] = [None]
        dist.all_gather_object(said, {"a": 1}, group=ranks.talk)
        assert said == [{"a": 1}]
        dist.broadcast_object_list(said, src=0, group=ranks.talk)
        assert said == [{"a": 1}]
        check_alike(method.student.state_dict(), Ranks(0, 2, device))  # as far as one can be unlike itself
        shard(method.networks())
        assert is_sharded(method.student.parameters())
        found = whole(gradients(method, views))
        state = whole(method.student.state_dict())
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name].to(device), gradient, rtol=1e-3, atol=1e-6), name
    for name, value in plain.student.state_dict().items():
        assert torch.equal(state[name].to(device), value), name


def test_gradients_are_averaged_beside_the_backward_pass(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a group of one that takes itself for two: a half of each gradient is summed over one rank."""
    monkeypatch.setattr("pathtrain.distributed.gradients.BUCKET", 4096)  # elements: some buckets
    torch.manual_seed(0)
    recipe = load("smoke", [*SETTINGS, "precision=bfloat16", "compile=false"])
    method = Dino(recipe, 4, device)
    parts = method.split(drawn(recipe, device), 2)

    def found(world: int) -> dict[str, torch.Tensor]:
        made = Gradients(method.student.parameters(), method.computing(), Ranks(0, world, device), True)
        made.clear()
        for number, part in enumerate(parts):
            with made.part(last=number == len(parts) - 1):
                method.loss(part, 0).loss.backward()  # type: ignore[no-untyped-call]
        made.average()
        return {name: p.grad.clone() for name, p in method.student.named_parameters() if p.grad is not None}

    expected = found(1)
    with group(device):
        halves = found(2)
    assert halves.keys() == expected.keys()
    for name, gradient in expected.items():
        largest = float(gradient.abs().max())  # a card adds up some of them in another order each time
        assert torch.allclose(2 * halves[name], gradient, rtol=0, atol=0.02 * largest), name


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("sharding", "precision", "compiled"),
    [
        ("none", "float32", "false"),
        ("none", "bfloat16", "false"),
        ("none", "bfloat16", "true"),
        ("full", "float32", "false"),
        ("full", "bfloat16", "true"),
    ],
)
def test_two_cards_are_one(
    dataset: Path, tmp_path: Path, sharding: str, precision: str, compiled: str
) -> None:
    """Real commands, as torchrun starts them. On the CPU: tests/pathtrain/distributed."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one card")
    settings = [*SETTINGS, f"sharding={sharding}", f"precision={precision}", f"compile={compiled}"]
    chosen = [part for setting in settings for part in ("--set", setting)]
    for world in (1, 2):
        command = ["pretrain", str(dataset), "--out", str(tmp_path / str(world)), *chosen]
        place = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "pathtrain", *command],
                env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(world)
        ]
        assert [process.wait(timeout=300) for process in processes] == [0] * world
    one, two = (checkpoint.load(tmp_path / str(world))["student"]["backbone"] for world in (1, 2))
    off = torch.cat([(one[name] - two[name]).flatten() for name in one]).norm()
    assert off < 0.05 * torch.cat([value.flatten() for value in one.values()]).norm()
