"""Regions: the grid's vector, and DINO with temperatures of its own."""

import numpy as np
import pytest
import torch

from pathtrain.losses.dino import dino_terms
from pathtrain.methods.region_dino import RegionTeaching, crops
from pathtrain.models.grid_vit import GridViT, cells_of
from pathtrain.recipes.dino import HeadConfig
from pathtrain.recipes.hierarchical import GridCrops, RegionDino, StageConfig
from pathtrain.recipes.load import load

CPU = torch.device("cpu")
HEAD = HeadConfig(out_dim=16, hidden_dim=12, bottleneck_dim=8, layers=2, norm_last_layer=True)
REGIONS = RegionDino(
    weight=1.0,
    batch=4,
    side=2,
    min_tiles=0.5,
    globals=GridCrops(count=2, size=2),
    locals=GridCrops(count=1, size=1),
    flip=0.5,
)


def teaching() -> RegionTeaching:
    torch.manual_seed(0)
    stage2 = GridViT(StageConfig(dim=8, depth=1, heads=2), 6)
    return RegionTeaching(stage2, HEAD, load("smoke").dino, CPU)


def test_a_mean_reaches_every_cell_and_has_no_token() -> None:
    torch.manual_seed(0)
    net = GridViT(StageConfig(dim=8, depth=1, heads=2, pool="mean"), 6)
    assert "token" not in net.state_dict()
    net.blocks = torch.nn.ModuleList()  # what attention would mix
    vectors = torch.randn(2, 4, 6, requires_grad=True)
    net(vectors, cells_of(2, CPU))[0].square().sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad[0].norm(dim=1) > 0).all()
    assert (vectors.grad[1] == 0).all()


def test_the_loss_is_dinos_with_the_teachers_temperature() -> None:
    made = teaching()
    made.center = torch.randn(16) * 0.01
    grids = torch.randn(4, 2, 2, 6)
    config = REGIONS.model_copy(update={"flip": 0.0})
    found = made.loss(grids, torch.arange(4).numpy(), config, 0, 0.07)
    whole = grids.flatten(1, 2)
    with torch.no_grad():
        scores, _ = made.teacher([[whole, whole]])
    terms = dino_terms(scores, scores, made.center, 0.1, 0.07)
    torch.testing.assert_close(found.means["teacher_entropy"], terms.entropy)


@pytest.mark.parametrize(("own", "left"), [(None, 0.9), (0.25, 0.25)])
def test_the_centre_moves_by_the_phases_momentum_or_the_runs(own: float | None, left: float) -> None:
    made = teaching()
    made.config = made.config.model_copy(update={"center_momentum": 0.9})
    made.center = torch.ones(16)
    made.update(torch.zeros(16), REGIONS.model_copy(update={"center_momentum": own}))
    torch.testing.assert_close(made.center, torch.full((16,), left))


@pytest.mark.parametrize(("side", "size", "count"), [(4, 3, 2), (4, 2, 8), (16, 14, 2), (16, 6, 8)])
def test_crops_of_a_region_are_squares_in_different_places(side: int, size: int, count: int) -> None:
    batch, free = 2000, side - size + 1
    grids = torch.arange(side * side).view(1, side, side, 1).expand(batch, -1, -1, -1)
    kind = GridCrops(count=count, size=size)
    found = torch.stack(crops(grids, kind, 0.5, 0, np.arange(batch), 7))[..., 0].view(
        count, batch, size, size
    )
    row, column = found // side, found % side
    for along, other, dim in ((row, column, 2), (column, row, 3)):
        assert (along == along.select(5 - dim, 0).unsqueeze(5 - dim)).all()
        steps = along.diff(dim=dim)
        assert (steps.abs() == 1).all()
        assert (steps == steps.select(dim, 0).unsqueeze(dim)).all(), "mirrored as a whole"
        assert abs(float((steps.select(dim, 0) < 0).float().mean()) - 0.5) < 0.03
        assert other.min() == 0
        assert other.max() == side - 1
    start = (row.amin((2, 3)) * free + column.amin((2, 3))).numpy()
    assert all(len(set(of)) == count for of in start.T)
    counts = np.bincount(start.ravel(), minlength=free**2)
    assert counts.min() > 0.6 * count * batch / free**2, "every place, about as often"
    again = crops(grids[5:7], kind, 0.5, 0, np.array([5, 6]), 7)
    torch.testing.assert_close(torch.stack(again)[..., 0].view(count, 2, size, size), found[:, 5:7])


def test_more_views_than_places_repeat_them() -> None:
    grids = torch.randn(3, 2, 2, 5)
    same = crops(grids, GridCrops(count=2, size=2), 0.0, 0, np.arange(3), 0)
    assert torch.equal(same[0], grids.flatten(1, 2))
    assert torch.equal(*same)
