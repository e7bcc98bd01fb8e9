"""DSMIL and TransMIL against torchmil on the same weights, eva's ABMIL against its formula."""

import math
import resource

import numpy as np
import pytest
import torch
from torch import nn
from torchmil.models import ABMIL, CLAM_SB, DSMIL, TransMIL

from pathtrain.models.bag_models import DsMil, EvaAbmil, MeanMlp, Ordered, bag_model
from pathtrain.models.mil import Mil, MilConfig
from pathtrain.models.transmil import WIDTH, NystromAttention, TransMil, pseudo_inverse

DIM = 6
NETWORKS = ("clam-sb", "abmil", "transmil", "dsmil", "mean-mlp", "eva-abmil")


def bag(count: int, dim: int = DIM, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, dim)))


@pytest.mark.parametrize("tiles", [1, 9])
def test_dsmil_is_torchmils(tiles: int) -> None:
    torch.manual_seed(0)
    own, other = DsMil(DIM, 1).double(), DSMIL((DIM,), att_dim=128, nonlinear_q=True).double()
    other.q_nn.load_state_dict(own.query.state_dict())
    other.inst_classifier.load_state_dict(own.instance.state_dict())
    other.bag_classifier.load_state_dict(
        {"weight": own.bag.weight[:, 0].detach(), "bias": own.bag.bias.detach()}  # type: ignore[union-attr]
    )
    x = bag(tiles)
    outputs, attention, scores = own(x)
    expected, weights, instances = other(x[None], return_att=True, return_inst_pred=True)
    assert outputs.item() == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(scores[:, 0], instances[0])
    torch.testing.assert_close(attention.softmax(dim=1)[0], weights[0, :, 0])
    found: list[float] = []
    own.loss(x, 0, lambda out, _: found.append(out.item()) or out.sum())  # type: ignore[func-returns-value]
    assert found == [outputs.item(), instances.max().item()]  # both streams, half each


def test_dsmil_reads_each_class_by_its_highest_tile() -> None:
    torch.manual_seed(0)
    own, x = DsMil(DIM, 3).double(), bag(9)
    _, attention, scores = own(x)
    query = own.query(x)
    for number in range(3):
        best = int(scores[:, number].argmax())
        torch.testing.assert_close(attention[number], query @ query[best] / math.sqrt(128))


@pytest.mark.parametrize("tiles", [300])
def test_transmil_is_torchmils_but_for_what_that_lacks(tiles: int) -> None:
    """torchmil has no convolution over the values, no layer after the heads and no ReLU: put aside here."""
    torch.manual_seed(0)
    own = TransMil(DIM, 1).double().eval()
    embed = nn.Sequential(nn.Linear(DIM, WIDTH), nn.ReLU())
    other = TransMIL((DIM,), att_dim=WIDTH, n_heads=8, feat_ext=embed).double().eval()
    with torch.no_grad():
        for place, layer in enumerate(own.layers):
            assert isinstance(layer, NystromAttention)
            layer.residual.weight.zero_()
            layer.out[0].weight.copy_(torch.eye(WIDTH))
            layer.out[0].bias.zero_()
            other.layers[place].att_module.qkv_nn.load_state_dict(layer.qkv.state_dict())
            other.layers[place].norm1.load_state_dict(own.norms[place].state_dict())
        other.feat_ext.load_state_dict(own.embed.state_dict())
        other.cls_token.copy_(own.token[None])
        for name, convolution in zip(("proj", "proj1", "proj2"), own.pyramid.convolutions, strict=True):
            getattr(other.pos_layer, name).load_state_dict(convolution.state_dict())
        other.norm.load_state_dict(own.norm.state_dict())
        other.classifier.load_state_dict(own.classifier.state_dict())
        x = bag(tiles)
        outputs, looked, _ = own(x)
        expected, attention = other(x[None], return_att=True)
    assert outputs.item() == pytest.approx(expected.item(), abs=1e-9)
    torch.testing.assert_close(looked[0], attention[0], atol=1e-9, rtol=1e-6)


def test_the_values_convolution_is_per_head_along_the_tiles() -> None:
    torch.manual_seed(0)
    layer = NystromAttention(16, heads=2, landmarks=4, kernel=3, dropout=0).double()
    x = bag(4, 16)
    with torch.no_grad():
        whole, _ = layer(x)
        weight = layer.residual.weight.clone()
        layer.residual.weight.zero_()
        without, _ = layer(x)
        values = x @ layer.qkv.weight[32:].T  # (4, 16), heads side by side
        padded = torch.cat([torch.zeros(1, 16), values, torch.zeros(1, 16)])
        kernel = weight[:, 0].repeat_interleave(8, dim=0)  # (16, 3)
        added = sum(padded[place : place + 4] * kernel[:, place] for place in range(3))
        torch.testing.assert_close(whole - without, added @ layer.out[0].weight.T)  # type: ignore[operator]


def test_with_a_landmark_per_tile_the_attention_is_the_plain_one() -> None:
    torch.manual_seed(0)
    layer = NystromAttention(16, heads=2, landmarks=12, steps=30, dropout=0).double()
    x = bag(12, 16)
    with torch.no_grad():
        layer.residual.weight.zero_()
        q, k, v = (part.reshape(12, 2, 8).transpose(0, 1) for part in layer.qkv(x).chunk(3, dim=-1))
        plain = nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(12, 16)
        torch.testing.assert_close(layer(x)[0], layer.out(plain), atol=1e-8, rtol=1e-6)


def test_pseudo_inverse() -> None:
    x = torch.softmax(bag(5, 5).reshape(1, 5, 5), dim=-1)
    torch.testing.assert_close(pseudo_inverse(x, 40), torch.linalg.pinv(x), atol=1e-8, rtol=1e-6)


def test_eva_abmil_by_hand() -> None:
    torch.manual_seed(0)
    own, x = EvaAbmil(DIM, 3).double().eval(), bag(7)
    w = {name: value.detach() for name, value in own.named_parameters()}
    h = x @ w["embed.weight"].T + w["embed.bias"]
    gate = torch.tanh(h @ w["attention.tanh.0.weight"].T + w["attention.tanh.0.bias"])
    gate = gate * torch.sigmoid(h @ w["attention.sigmoid.0.weight"].T + w["attention.sigmoid.0.bias"])
    weights = (gate @ w["attention.score.weight"].T + w["attention.score.bias"]).softmax(dim=0)
    pooled = (weights * h).sum(dim=0)
    for number in (0, 2):
        layer = (w[f"classifier.{number}.weight"], w[f"classifier.{number}.bias"])
        pooled = (pooled @ layer[0].T + layer[1]).clamp(min=0)
    expected = pooled @ w["classifier.4.weight"].T + w["classifier.4.bias"]
    torch.testing.assert_close(own(x)[0], expected)
    assert [w[f"classifier.{n}.weight"].shape[0] for n in (0, 2, 4)] == [128, 64, 3]


@pytest.mark.parametrize("other", [ABMIL, CLAM_SB])
def test_abmil_and_clam_pool_as_torchmil_does(other: type[nn.Module]) -> None:
    torch.manual_seed(0)
    own = Mil(DIM, 2, MilConfig(method="abmil", dropout=0)).double().eval()
    embed = nn.Sequential(nn.Linear(DIM, 512), nn.ReLU())
    made = other((DIM,), att_dim=256, gated=True, feat_ext=embed).double().eval()
    made.feat_ext.load_state_dict(
        {name.removeprefix("embed."): v for name, v in own.embed.state_dict().items()}
    )
    pool = made.pool  # type: ignore[attr-defined]
    with torch.no_grad():
        for layer, ours in ((pool.fc1, own.attention.tanh[0]), (pool.fc_gated, own.attention.sigmoid[0])):
            layer.module.load_state_dict(ours.state_dict())
        pool.fc2.weight.copy_(own.attention.score.weight)
        x = bag(9)
        _, scores, h = own(x)
        _, attention = made(x[None], return_att=True)
    shifted = attention.reshape(-1) - scores[0]  # a constant beside it does not matter to the softmax
    assert float(shifted.max() - shifted.min()) < 1e-9
    assert h.shape == (9, 512)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("tiles", [1, 20])
def test_bags_of_any_size_and_one_output(network: str, tiles: int) -> None:
    torch.manual_seed(0)
    made = bag_model(network, 16, 1, MilConfig(method="abmil"))  # type: ignore[arg-type]
    x = torch.randn(tiles, 16)
    loss = made.loss(x, 0, lambda outputs, _: outputs.sum() ** 2)  # type: ignore[operator]
    loss.backward()
    outputs, attention, _ = made(x)
    assert outputs.shape == (1,)
    assert attention is None or attention.shape == (1, tiles)
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
    ordered = Ordered(made, 4)
    assert ordered(x)[0].shape == (3,)


def test_mean_mlp_sees_the_mean_alone() -> None:
    torch.manual_seed(0)
    own = MeanMlp(DIM, 2).double().eval()
    x = bag(9)
    torch.testing.assert_close(own(x)[0], own(x.mean(dim=0, keepdim=True))[0])


@pytest.mark.slow
def test_transmil_takes_ten_thousand_tiles_in_little_memory() -> None:
    torch.manual_seed(0)
    own = TransMil(16, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        own(torch.randn(10_000, 16))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 1500  # MB; attention of all pairs would take 8 x 400
