"""Position embeddings of other grids: DINO's sampling by hand in float64, and plain timm at the own size."""

import copy

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from helpers.toys import TINY
from torch.nn import functional

from pathtrain.methods.dino import Dino
from pathtrain.models.positions import AsDino, along, as_dino, resampled
from pathtrain.models.reduced import reduced
from pathtrain.recipes.load import load

SMALL = {"patch_size": 16, "depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 0}


def weights(old: int, new: int) -> npt.NDArray[np.float64]:
    """(new, old): cubic convolution (Keys 1981), a = -.75, edges repeated; cells of old / (new + .1) wide."""
    found = np.zeros((new, old))
    for i in range(new):
        place = (i + 0.5) * old / (new + 0.1) - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            t, a = abs(place - tap), -0.75
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            found[i, min(max(tap, 0), old - 1)] += near if t <= 1 else far
    return found


@pytest.mark.parametrize(("new", "old"), [((6, 6), (14, 14)), ((16, 16), (14, 14)), ((6, 9), (14, 7))])
def test_samples_lie_where_dino_takes_them(new: tuple[int, int], old: tuple[int, int]) -> None:
    grid = torch.randn(1, old[0] * old[1], 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices = [along(*sizes) for sizes in zip(old, new, strict=True)]
    found = resampled(grid, *matrices).numpy().reshape(*new, 5)
    rows, columns = weights(old[0], new[0]), weights(old[1], new[1])
    by_hand = np.einsum("ir,jc,rcd->ijd", rows, columns, grid.numpy().reshape(*old, 5))
    assert np.abs(found - by_hand).max() < 1e-12
    images = grid.view(1, *old, 5).permute(0, 3, 1, 2)
    factors = [(there + 0.1) / here for there, here in zip(new, old, strict=True)]
    torchs = functional.interpolate(images, scale_factor=factors, mode="bicubic")[0].permute(1, 2, 0)
    assert np.abs(found - torchs.numpy()).max() < 1e-12


# DINOv2's 37 x 37 at 224 and 98 px, and at 392 and 168; a grid that is not square
@pytest.mark.parametrize("new", [(16, 16), (7, 7), (28, 28), (12, 12), (12, 28), (40, 40)])
@pytest.mark.parametrize("antialias", [False, True])
def test_the_published_schemes_of_dinov2_are_those_of_torch(new: tuple[int, int], antialias: bool) -> None:
    """As dinov2's interpolate_pos_encoding calls it: hub without registers, and with."""
    rng = torch.Generator().manual_seed(0)
    held = torch.randn(1, 37 * 37, 5, dtype=torch.float64, generator=rng)
    images = held.view(1, 37, 37, 5).permute(0, 3, 1, 2)
    if antialias:
        theirs = functional.interpolate(images, size=new, mode="bicubic", antialias=True)
    else:
        factors = [(side + 0.1) / 37 for side in new]
        theirs = functional.interpolate(images, scale_factor=factors, mode="bicubic", antialias=False)
    matrices = [along(37, side, antialias) for side in new]
    found = resampled(held, *matrices)
    expected = theirs.permute(0, 2, 3, 1).reshape(1, -1, 5)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("old", [14, 37])
def test_every_size_has_its_number_of_cells(old: int) -> None:
    """dinov2 pull request 378: without the .1 a factor gave 60 cells for 61, 37 for 38 and so on."""
    for new in range(1, 130):
        for antialias in (False, True):
            matrix = along(old, new, antialias)
            assert matrix.shape == (new, old)
            assert torch.allclose(matrix.sum(1), torch.ones(new, dtype=torch.float64))


@pytest.mark.parametrize("more", [{}, {"no_embed_class": True, "reg_tokens": 3}])
def test_with_registers_it_is_timms_own_way(more: dict[str, object]) -> None:
    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **SMALL, **more).eval()
    ours = copy.deepcopy(plain)
    as_dino(ours, [96], "registers")
    for side in (96, 160, 224):
        image = torch.randn(1, 3, side, side)
        assert torch.allclose(ours(image), plain(image), atol=1e-5)


@pytest.mark.parametrize(
    "more", [{}, {"no_embed_class": True}, {"reg_tokens": 3}, {"class_token": False, "global_pool": "avg"}]
)
def test_the_own_size_is_plain_timm_and_others_differ(more: dict[str, object]) -> None:
    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **SMALL, **more).eval()
    ours = copy.deepcopy(plain)
    as_dino(ours)
    assert type(ours) is AsDino
    assert type(copy.deepcopy(ours)) is AsDino
    own, small = torch.randn(2, 3, 224, 224), torch.randn(2, 3, 96, 96)
    assert torch.allclose(ours(own), plain(own), atol=1e-6)
    assert not torch.allclose(ours(small), plain(small), atol=1e-3)
    prefix = plain.pos_embed.shape[1] - 196
    patches = resampled(plain.pos_embed[:, prefix:].double(), along(14, 6), along(14, 6)).float()
    fixed = timm.create_model("vit_tiny_patch16_224", img_size=96, **SMALL, **more).eval()
    state = {**plain.state_dict(), "pos_embed": torch.cat([plain.pos_embed[:, :prefix], patches], dim=1)}
    fixed.load_state_dict(state)
    assert torch.allclose(ours(small), fixed(small), atol=1e-6)


def test_students_and_teachers_resample_as_dino() -> None:
    method = Dino(load("smoke", TINY), 10, torch.device("cpu"))
    assert [type(network["backbone"]) for network in (method.student, method.teacher)] == [AsDino, AsDino]


def test_matrices_are_made_once_and_stay_float32() -> None:
    """In no checkpoint, and the same under autocast and in a reduced network, as those of other sizes are."""
    torch.manual_seed(0)
    known = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **SMALL).eval()
    names = set(known.state_dict())
    late = copy.deepcopy(known)
    as_dino(known, [224, 96])
    as_dino(late)
    assert known.FULL == ("resampling_14_to_6",)
    assert set(known.state_dict()) == names
    assert reduced(known).resampling_14_to_6.dtype == torch.float32
    seen = []
    for network in (known, late):
        network.pos_drop.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
        for image in (torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 64, 64)):
            network(image)
            with torch.autocast("cpu", torch.bfloat16):
                network(image)
    assert [found.dtype for found in seen] == [torch.float32] * 8
    assert torch.equal(seen[0], seen[4])
    assert torch.equal(seen[2], seen[6])
    assert torch.allclose(seen[0], seen[1], atol=1e-2)  # patches are bfloat16 there
