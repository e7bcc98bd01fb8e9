"""iBOT's loss against lightly's, by hand, and what its weights promise."""

import warnings

import pytest
import torch
from torch import Tensor

from pathtrain.losses.ibot import ibot_terms
from pathtrain.methods.masked import Masked

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # lightly's imports warn of their own age
    from lightly.loss.ibot_loss import IBOTPatchLoss

B, G, SIDE, K = 3, 2, 5, 33


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Masks (B, G, N) with a crop without any, and scores of the masked patches."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.rand(B, G, SIDE * SIDE, generator=rng) < 0.4
    masks[1, 0] = False
    count = int(masks.sum())
    return masks, torch.randn(count, K, generator=rng) / 5, torch.randn(count, K, generator=rng) / 5


def placed(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Tiles and weights of masked patches as training has them, view by view."""
    picked = Masked([], masks).picked(torch.device("cpu"))
    return picked.tiles, picked.weights


@pytest.mark.parametrize("centred", [False, True])
def test_loss_and_gradient_are_lightlys(centred: bool) -> None:
    masks, student, teacher = drawn()
    theirs = IBOTPatchLoss(output_dim=K, teacher_temp=0.05, student_temp=0.1)
    center = torch.randn(K) / 5 if centred else torch.zeros(K)
    theirs.center.value.copy_(center[None])
    mine, other = student.clone().requires_grad_(), student.clone().requires_grad_()
    crop, weight = placed(masks)
    terms = ibot_terms(mine, teacher, center, 0.1, 0.05, crop, weight, B)
    expected = theirs(teacher, other, masks.transpose(0, 1).reshape(G * B, SIDE, SIDE))
    assert terms.each.shape == (B,)
    assert torch.allclose(terms.each.mean(), expected, rtol=1e-5)
    terms.each.mean().backward()
    expected.backward()
    assert mine.grad is not None
    assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_each_tile_has_its_own_part_by_hand() -> None:
    masks, student, teacher = drawn(1)
    found = ibot_terms(student, teacher, torch.zeros(K), 0.1, 0.05, *placed(masks), B)
    by_hand, least = torch.zeros(B), torch.zeros(B)
    for row, (crop, tile, _) in enumerate(masks.transpose(0, 1).nonzero().tolist()):
        q = torch.softmax(teacher[row] / 0.05, dim=0)
        share = 1 / (int(masks[tile, crop].sum()) * G)
        by_hand[tile] -= share * (q * torch.log_softmax(student[row] / 0.1, dim=0)).sum()
        least[tile] -= share * (q * q.log()).sum()
    assert torch.allclose(found.each, by_hand, rtol=1e-5)
    assert torch.allclose(found.entropy, least.mean(), rtol=1e-5)
    assert found.entropy < found.each.mean()


def test_as_many_crops_more_without_masks_halve_the_loss() -> None:
    masks, student, teacher = drawn()
    more = torch.cat([masks, torch.zeros_like(masks)], dim=1)
    losses = [
        ibot_terms(student, teacher, torch.zeros(K), 0.1, 0.05, *placed(each), B).each.mean()
        for each in (masks, more)
    ]
    assert torch.allclose(losses[1], losses[0] / 2, rtol=1e-6)


def test_parts_make_the_whole_and_rows_without_weight_add_nothing() -> None:
    masks, student, teacher = drawn()
    crop, weight = placed(masks)
    whole = ibot_terms(student, teacher, torch.zeros(K), 0.1, 0.05, crop, weight, B)
    each, entropy = [], 0.0
    for tile in range(B):
        rows = crop == tile
        filled = [torch.cat([x[rows], torch.full((2, K), 9.0)]) for x in (student, teacher)]
        crops = torch.zeros(int(rows.sum()) + 2, dtype=torch.int64)
        weights = torch.cat([weight[rows], torch.zeros(2)])
        part = ibot_terms(*filled, torch.zeros(K), 0.1, 0.05, crops, weights, 1)
        each.append(part.each)
        entropy += float(part.entropy) / B
    assert torch.allclose(torch.cat(each), whole.each, rtol=1e-6)
    assert entropy == pytest.approx(float(whole.entropy), rel=1e-5)


def test_no_masked_patch_is_0_with_a_graph() -> None:
    student = torch.zeros(0, K, requires_grad=True)
    none = torch.zeros(0)
    found = ibot_terms(student, student.detach(), torch.zeros(K), 0.1, 0.05, none.long(), none, B)
    found.each.mean().backward()
    assert torch.equal(found.each.detach(), torch.zeros(B))
    assert student.grad is not None
    assert float(found.entropy) == 0


def test_float32_under_autocast_and_compiled() -> None:
    masks, student, teacher = drawn()
    crop, weight = placed(masks)
    given = (student.bfloat16(), teacher.bfloat16(), torch.zeros(K), 0.1, 0.05, crop, weight, B)
    exact = ibot_terms(given[0].double(), given[1].double(), *given[2:])
    assert exact.each.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        found = ibot_terms(*given)
    assert found.each.dtype == torch.float32
    assert torch.allclose(found.each, exact.each.float(), rtol=1e-5)
    compiled = torch.compile(ibot_terms, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(*given).each, found.each, rtol=1e-5)


def test_shapes_that_do_not_belong_together() -> None:
    masks, student, teacher = drawn()
    crop, weight = placed(masks)
    with pytest.raises(ValueError, match="expected student"):
        ibot_terms(student[1:], teacher, torch.zeros(K), 0.1, 0.05, crop, weight, B)
    with pytest.raises(ValueError, match="expected crop and weight"):
        ibot_terms(student, teacher, torch.zeros(K), 0.1, 0.05, crop[1:], weight, B)
