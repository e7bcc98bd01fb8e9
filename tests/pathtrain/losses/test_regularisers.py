"""Regularisers against lightly's, analytic values and each other; and those of two ranks against one."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import two_ranks
from torch import Tensor

from pathtrain.distributed.ranks import ALONE, CPU, Ranks
from pathtrain.losses.regularisers import among_ranks, grouped, kde, koleo, uniformity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # lightly's imports warn of their own age
    from lightly.loss import KoLeoLoss

Fn = Callable[[Tensor], Tensor]
KAPPA = 5.0
ALL: list[Fn] = [koleo, partial(kde, kappa=KAPPA), uniformity]


def vectors(n: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(n, 7, generator=torch.Generator().manual_seed(seed)) * 3


def test_koleo_is_lightlys() -> None:
    mine, other = vectors().requires_grad_(), vectors().requires_grad_()
    ours, theirs = koleo(mine), KoLeoLoss()(other)
    assert torch.allclose(ours, theirs, rtol=1e-6)
    ours.backward()
    theirs.backward()
    assert mine.grad is not None
    assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_kde_of_known_arrangements() -> None:
    same = torch.tensor([[1.0, 2.0, 2.0]]) * torch.arange(1, 6)[:, None]  # lengths do not matter
    assert float(kde(same, KAPPA)) == pytest.approx(KAPPA, rel=1e-6)
    assert float(kde(torch.eye(6), KAPPA)) == pytest.approx(0, abs=1e-6)
    assert float(kde(torch.tensor([[1.0, 0], [-3, 0]]), KAPPA)) == pytest.approx(-KAPPA, rel=1e-6)


def test_kde_by_hand_in_float64() -> None:
    given = vectors().double()
    z = given / given.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(z)):
        kernels = [math.exp(KAPPA * float(z[i] @ z[j])) for j in range(len(z)) if j != i]
        total += math.log(sum(kernels) / len(kernels))
    assert float(kde(given, KAPPA)) == pytest.approx(total / len(z), rel=1e-12)


@pytest.mark.parametrize("fn", ALL)
def test_a_descent_step_pushes_close_points_apart(fn: Fn) -> None:
    x = torch.tensor([[1.0, 0.05, 0], [1.0, -0.05, 0], [0, 0, 1.0]], requires_grad=True)
    fn(x).backward()
    assert x.grad is not None
    moved = torch.nn.functional.normalize(x.detach() - 1e-3 * x.grad)
    before = torch.nn.functional.normalize(x.detach())
    assert moved[0] @ moved[1] < before[0] @ before[1]


def test_wang_and_isolas_is_the_log_of_the_mean_where_kde_is_the_mean_of_logs() -> None:
    given = vectors().double()
    z = given / given.norm(dim=1, keepdim=True)
    pairs = [(i, j) for i in range(len(z)) for j in range(i)]
    direct = math.log(sum(math.exp(-2 * float((z[i] - z[j]).square().sum())) for i, j in pairs) / len(pairs))
    assert float(uniformity(given, 2.0)) == pytest.approx(direct, rel=1e-12)
    assert float(kde(given, 4.0)) - 4 < direct  # Jensen
    alike = torch.eye(5, dtype=torch.float64)  # each has the same density: the two are one
    assert float(kde(alike, 4.0)) - 4 == pytest.approx(float(uniformity(alike, 2.0)), rel=1e-12)


@pytest.mark.parametrize("fn", ALL)
def test_duplicates_have_finite_gradients(fn: Fn) -> None:
    x = torch.cat([vectors(4), vectors(4), torch.zeros(1, 7)]).requires_grad_()
    fn(x).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("fn", ALL)
def test_float32_under_autocast(fn: Fn) -> None:
    given = vectors().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = fn(given)
    assert found.dtype == torch.float32
    assert torch.allclose(found, fn(given.double()).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fn", ALL)
def test_one_vector_is_an_error(fn: Fn) -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        fn(vectors(1))


def test_groups_are_neighbours_and_must_be_equal() -> None:
    given = vectors()
    by_hand = sum(koleo(given[start : start + 4]) for start in (0, 4, 8)) / 3
    assert torch.allclose(grouped(koleo, given, 3), torch.as_tensor(by_hand))
    with pytest.raises(ValueError, match="12 vectors cannot be put in 5"):
        grouped(koleo, given, 5)


def test_compiled() -> None:
    for fn in ALL:
        compiled = torch.compile(fn, backend="aot_eager", fullgraph=True)
        assert torch.allclose(compiled(vectors()), fn(vectors()), rtol=1e-5)


KINDS: list[Fn] = [*ALL, partial(grouped, partial(kde, kappa=KAPPA), groups=3)]


@pytest.mark.slow
def test_two_ranks_are_one(tmp_path: Path) -> None:
    two_ranks.run(__file__, "_rank", tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for number, fn in enumerate(KINDS):
        weight = torch.eye(7).requires_grad_()
        loss = among_ranks(fn, vectors() @ weight, ALONE)
        loss.backward()
        for value, _ in (each[number] for each in found):
            assert torch.allclose(value, loss.detach(), rtol=1e-6)
        mean = (found[0][number][1] + found[1][number][1]) / 2
        assert weight.grad is not None
        assert torch.allclose(mean, weight.grad, rtol=1e-4, atol=1e-6)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = []
    for fn in KINDS:
        weight = torch.eye(7).requires_grad_()
        loss = among_ranks(fn, vectors()[rank::2] @ weight, Ranks(rank, 2, CPU))
        loss.backward()
        found.append((loss.detach(), weight.grad))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
