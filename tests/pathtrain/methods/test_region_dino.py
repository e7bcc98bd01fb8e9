"""Regions: the grid's vector, and DINO with temperatures of its own."""

import pytest
import torch

from pathtrain.losses.dino import dino_terms
from pathtrain.methods.region_dino import RegionTeaching
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


@pytest.mark.parametrize("own", [None, 0.004])
def test_the_teacher_takes_the_temperature_of_the_phase_or_the_runs(own: float | None) -> None:
    made = teaching()
    made.center = torch.randn(16) * 0.01
    grids = torch.randn(4, 2, 2, 6)
    config = REGIONS.model_copy(update={"flip": 0.0, "teacher_temp": own})
    found = made.loss(grids, torch.arange(4).numpy(), config, 0, 0.07)
    whole = grids.flatten(1, 2)
    with torch.no_grad():
        scores, _ = made.teacher([[whole, whole]])
    terms = dino_terms(scores, scores, made.center, 0.1, own or 0.07)
    torch.testing.assert_close(found.means["teacher_entropy"], terms.entropy)


@pytest.mark.parametrize(("own", "left"), [(None, 0.9), (0.25, 0.25)])
def test_the_centre_moves_by_the_phases_momentum_or_the_runs(own: float | None, left: float) -> None:
    made = teaching()
    made.config = made.config.model_copy(update={"center_momentum": 0.9})
    made.center = torch.ones(16)
    made.update(torch.zeros(16), REGIONS.model_copy(update={"center_momentum": own}))
    torch.testing.assert_close(made.center, torch.full((16,), left))
