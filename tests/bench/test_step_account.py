"""The account of a step: hand-counted, and what the three ways save, so that a regression is seen."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import fake_card
import step_account

SMALL = Namespace(model="vit_tiny_patch16_224", batch=64)


def test_what_is_counted_of_operators() -> None:
    counting = step_account.Counting()
    a, b = torch.ones(4, 8), torch.ones(8, 2)
    with counting:
        c = a.view(32).view(4, 8) @ b
        c.add_(1)
    found = counting.account
    assert found.kernels == 2
    assert found.bytes == 4 * (4 * 8 + 8 * 2 + 4 * 2) + 4 * (2 * 4 * 2)
    assert found.flops == 2 * 4 * 8 * 2


@pytest.mark.parametrize(
    ("sizes", "lists", "launches"),
    [([1] * 110, 1, 1), ([1] * 111, 1, 2), ([1] * 64, 2, 1), ([320 * 65536 - 1], 1, 2), ([65536 * 10], 4, 1)],
)
def test_launches_of_several_tensors_at_once(sizes: list[int], lists: int, launches: int) -> None:
    given = [[torch.empty(size, device="meta") for size in sizes] for _ in range(lists)]
    assert step_account._launches("aten::_foreach_copy_", given) == launches


def test_factors_that_are_scalars_take_a_launch_each() -> None:
    given = [[torch.empty(9) for _ in range(5)], [torch.empty(()) for _ in range(5)]]
    assert step_account._launches("aten::_foreach_mul_", given) == 5


@pytest.mark.slow
def test_copies_save_casts() -> None:
    autocast, copies = (step_account.account(SMALL, way) for way in ("autocast", "copies"))
    assert copies.flops == pytest.approx(autocast.flops, rel=1e-3)
    assert copies.kernels < 0.8 * autocast.kernels
    assert copies.bytes < 0.85 * autocast.bytes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_compiled_saves_more() -> None:
    """Of a tiny ViT four in ten kernels, and a third of the bytes."""
    autocast, compiled = (step_account.account(SMALL, way) for way in ("autocast", "compiled"))
    assert compiled.kernels < 0.62 * autocast.kernels
    assert compiled.bytes < 0.7 * autocast.bytes
    assert compiled.flops == pytest.approx(autocast.flops, rel=0.01)


def test_launches_of_the_compilers_code() -> None:
    text = """
    def call(self, args):
        triton_poi_fused_0.run(a, 1, stream=s)
        extern_kernels.addmm(b, c, out=d)
        buf1 = torch.ops.card.attention.default(q, k, v)
        buf2 = torch.ops.aten.convolution_backward.default(x)
        buf3 = torch.ops.inductor._alloc_from_pool(x)
"""
    assert fake_card.launches(text) == 3 + fake_card.FORWARD
