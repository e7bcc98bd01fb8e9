"""Sinkhorn-Knopp's shift against lightly's assignments, a float64 reference, chunks, ranks, large scores."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import two_ranks
from torch import Tensor

from pathtrain.distributed.ranks import CPU, Ranks
from pathtrain.losses.sinkhorn import sinkhorn_shift

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # lightly's imports warn of their own age
    from lightly.loss.swav_loss import sinkhorn

N, K, TEMP = 24, 17, 0.07


def scores(rows: int = N, seed: int = 0, kind: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(rows, K, generator=torch.Generator().manual_seed(seed)) / 5).to(kind)


def assigned(found: Tensor, shift: Tensor) -> Tensor:
    return torch.softmax(found / TEMP + shift, dim=1)


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_assignments_are_lightlys(iterations: int) -> None:
    given = scores()
    found = assigned(given, sinkhorn_shift(given, TEMP, iterations))
    assert torch.allclose(found, sinkhorn(given, iterations, epsilon=TEMP), atol=1e-6)
    assert torch.allclose(found.sum(dim=1), torch.ones(N))


def test_by_hand_in_float64() -> None:
    given = scores(kind=torch.float64)
    q = np.exp(given.numpy() / TEMP)
    for _ in range(3):
        q = q / q.sum(axis=0, keepdims=True)
        q = q / q.sum(axis=1, keepdims=True)
    shift = sinkhorn_shift(given, TEMP)
    assert shift.dtype == torch.float64
    assert np.abs(assigned(given, shift).numpy() - q).max() < 1e-14
    assert float(shift.mean()) == pytest.approx(0, abs=1e-14)


def test_outputs_are_used_alike_in_the_end() -> None:
    given = scores() + torch.linspace(-1, 1, K)
    used = assigned(given, sinkhorn_shift(given, TEMP, 300)).mean(dim=0)
    assert torch.allclose(used, torch.full((K,), 1 / K), atol=1e-5)


def test_an_added_constant_changes_nothing() -> None:
    given = scores(kind=torch.float64)
    assert torch.allclose(sinkhorn_shift(given + 5, TEMP), sinkhorn_shift(given, TEMP), atol=1e-10)


def test_scores_far_above_where_exp_overflows() -> None:
    given = scores() * 100  # up to 60, where 88 * .07 is 6
    shift = sinkhorn_shift(given, TEMP)
    assert shift.isfinite().all()
    exact = assigned(given.double(), sinkhorn_shift(given.double(), TEMP))
    assert torch.allclose(assigned(given, shift), exact.float(), atol=1e-3)


def test_chunks_are_the_whole() -> None:
    given = scores()
    whole = sinkhorn_shift(given, TEMP)
    parts = [given[:5], given[5:5], given[5:20], given[20:]]
    assert torch.allclose(sinkhorn_shift(parts, TEMP), whole, atol=1e-5)
    asked = []

    def again() -> list[Tensor]:
        asked.append(1)
        return parts

    assert torch.allclose(sinkhorn_shift(again, TEMP), whole, atol=1e-5)
    assert len(asked) == 3


def test_float32_under_autocast_and_from_bfloat16() -> None:
    given = scores(kind=torch.bfloat16)
    exact = sinkhorn_shift(given.double(), TEMP)
    with torch.autocast("cpu", torch.bfloat16):
        found = sinkhorn_shift(given, TEMP)
    assert found.dtype == torch.float32
    assert torch.allclose(found, exact.float(), atol=1e-4)


def test_no_samples_no_iterations_and_wrong_shapes() -> None:
    assert torch.equal(sinkhorn_shift(torch.zeros(0, K), TEMP), torch.zeros(K))
    assert torch.equal(sinkhorn_shift(scores(), TEMP, 0), torch.zeros(K))
    assert sinkhorn_shift(scores() * torch.nan, TEMP).isnan().all()
    with pytest.raises(ValueError, match="no chunk"):
        sinkhorn_shift([], TEMP)
    with pytest.raises(ValueError, match="expected scores"):
        sinkhorn_shift(torch.zeros(3), TEMP)


def test_compiled_as_one_graph() -> None:
    given = scores()
    compiled = torch.compile(sinkhorn_shift, backend="aot_eager", fullgraph=True)
    temp = torch.tensor(TEMP)
    assert torch.allclose(compiled([given[:9], given[9:]], temp, 3), sinkhorn_shift(given, TEMP), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("first", [24, 5])
def test_two_ranks_are_one(tmp_path: Path, first: int) -> None:
    (tmp_path / "first").write_text(str(first))
    two_ranks.run(__file__, "_rank", tmp_path)
    expected = sinkhorn_shift(scores(), TEMP)
    for rank in range(2):
        assert torch.allclose(torch.load(tmp_path / f"{rank}.pt"), expected, atol=1e-5)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    first = int(Path(folder, "first").read_text())
    own = scores()[:first] if rank == 0 else scores()[first:]
    torch.save(sinkhorn_shift([own], TEMP, 3, Ranks(rank, 2, CPU)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
