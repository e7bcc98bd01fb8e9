"""CLAM and ABMIL against their formulas in float64 numpy, and on bags of awkward sizes."""

from typing import Any

import numpy as np
import pytest
import torch

from pathtrain.models.mil import HIDDEN, Mil, MilConfig, smooth_top1_svm

DIM, K = 6, 2


def model(method: str, classes: int = 2, dropout: float = 0.0, **more: Any) -> Mil:
    torch.manual_seed(0)
    config = MilConfig(method=method, dropout=dropout, k_sample=K, **more)  # type: ignore[arg-type]
    return Mil(DIM, classes, config).double()


def bag(count: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, DIM)))


def log_sum_exp(values: np.ndarray) -> float:
    return float(values.max() + np.log(np.exp(values - values.max()).sum()))


def by_hand(w: dict[str, np.ndarray], x: np.ndarray, label: int, config: MilConfig, classes: int) -> float:
    """The loss as the papers write it, tile by tile."""
    h = np.maximum(x @ w["embed.0.weight"].T + w["embed.0.bias"], 0)
    gate = np.tanh(h @ w["attention.tanh.0.weight"].T + w["attention.tanh.0.bias"])
    gate = gate / (1 + np.exp(-(h @ w["attention.sigmoid.0.weight"].T + w["attention.sigmoid.0.bias"])))
    a = gate @ w["attention.score.weight"].T + w["attention.score.bias"]  # (N, branches)
    logits = np.empty(classes)
    for c in range(classes):
        own = a[:, c if config.method == "clam-mb" else 0]
        weights = np.exp(own - log_sum_exp(own))
        logits[c] = w["classifier.weight"][c] @ (weights @ h) + w["classifier.bias"][c]
    bag_loss = log_sum_exp(logits) - logits[label]
    if config.method == "abmil":
        return bag_loss
    total = 0.0
    for c in range(classes):
        own = a[:, c if config.method == "clam-mb" else 0]
        order = np.argsort(-own)
        if c == label:
            k = min(K, len(x) // 2)
            chosen = [(i, 1) for i in order[:k]] + [(i, 0) for i in order[len(x) - k :]]
        else:
            chosen = [(i, 0) for i in order[: min(K, len(x))]] if classes > 2 else []
        losses = []
        for i, y in chosen:
            z = w[f"instances.{c}.weight"] @ h[i] + w[f"instances.{c}.bias"]
            margin = np.array([float(j != y) for j in range(2)]) if config.instance_loss == "svm" else 0
            losses.append(log_sum_exp(z + margin) - z[y])
        total += float(np.mean(losses)) if losses else 0.0
    return 0.7 * bag_loss + 0.3 * total / (classes if classes > 2 else 1)


@pytest.mark.parametrize("tiles", [1, 3, 4, 9])
@pytest.mark.parametrize(
    ("method", "classes", "instance"),
    [
        ("clam-sb", 2, "svm"),
        ("clam-sb", 3, "svm"),
        ("clam-mb", 2, "svm"),
        ("clam-mb", 3, "ce"),
        ("abmil", 3, "svm"),
    ],
)
def test_loss_and_gradient_against_numpy(method: str, classes: int, instance: str, tiles: int) -> None:
    network = model(method, classes, instance_loss=instance)
    x, label = bag(tiles), classes - 1
    loss = network.loss(x, label)
    loss.backward()
    weights = {name: value.detach().numpy().copy() for name, value in network.named_parameters()}
    assert abs(loss.item() - by_hand(weights, x.numpy(), label, network.config, classes)) < 1e-12
    rng = np.random.default_rng(0)
    for name, parameter in network.named_parameters():
        place = tuple(rng.integers(parameter.shape))
        ends = []
        for step in (1e-6, -1e-6):
            moved = {key: value.copy() for key, value in weights.items()}
            moved[name][place] += step
            ends.append(by_hand(moved, x.numpy(), label, network.config, classes))
        slope = 0.0 if parameter.grad is None else parameter.grad[place].item()
        assert abs(slope - (ends[0] - ends[1]) / 2e-6) < 1e-8, name


def test_smooth_svm_becomes_the_hard_one() -> None:
    logits = torch.tensor([[0.2, 0.5, -1.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([0, 0])
    hard = [max(0.0, 0.5 + 1 - 0.2), 0.0]  # max over j of z_j + [j != y] - z_y, by hand
    assert float(smooth_top1_svm(logits, targets, tau=1e-3)) == pytest.approx(np.mean(hard), abs=1e-9)


def test_multi_branch_sees_each_class_with_its_own_attention() -> None:
    network = model("clam-mb", 3)
    with torch.no_grad():
        network.attention.score.bias[0] += 5  # shifts all tiles alike: softmax must not change
        before, scores, _ = network(bag(7))
        assert scores.shape == (3, 7)
        network.attention.score.weight[0] *= -1
        after, _, _ = network(bag(7))
    assert before[0] != after[0]
    assert (before[1:] == after[1:]).all()


def test_order_of_tiles_does_not_matter() -> None:
    network = model("clam-sb")
    x = bag(11)
    shuffled = torch.from_numpy(np.random.default_rng(4).permutation(x.numpy()))
    assert network.loss(x, 1).item() == pytest.approx(network.loss(shuffled, 1).item(), abs=1e-12)


@pytest.mark.parametrize(("size", "width"), [("small", 256), ("big", 384)])
def test_sizes(size: str, width: int) -> None:
    network = Mil(10, 2, MilConfig(size=size))  # type: ignore[arg-type]
    expected = (10 + 1) * HIDDEN + 2 * (HIDDEN + 1) * width + (width + 1) + 2 * (HIDDEN + 1)
    expected += 2 * 2 * (HIDDEN + 1)  # instance classifiers
    assert sum(p.numel() for p in network.parameters()) == expected
    assert network.embed[2].p == 0.25


@pytest.mark.parametrize("method", ["clam-sb", "clam-mb", "abmil"])
@pytest.mark.parametrize("tiles", [1, 7, pytest.param(20_000, marks=pytest.mark.slow)])
def test_bags_of_any_size(method: str, tiles: int) -> None:
    torch.manual_seed(0)
    network = Mil(32, 2, MilConfig(method=method))  # type: ignore[arg-type]
    loss = network.loss(torch.randn(tiles, 32), 1)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    logits, scores, _ = network(torch.randn(tiles, 32))
    assert logits.shape == (2,)
    assert scores.shape == (2 if method == "clam-mb" else 1, tiles)
