"""eva's way of training against a plain loop of torch with Lightning's rules and torchmetrics."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.classification import BinaryRecall, BinarySpecificity, MulticlassAccuracy

from pathprep.errors import UsageError
from pathtrain.evaluate.tile_level.layers import _few, _first, train_layer
from pathtrain.params.evaluation import LinearParams
from pathtrain.params.layers import EVA, LayerOptions, LayerParams

CPU = torch.device("cpu")


def features(count: int, classes: int, apart: float, seed: int, dim: int = 8) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    return (apart * np.eye(dim)[labels] + rng.normal(size=(count, dim))).astype(np.float32), labels


@dataclass
class Found:
    weight: torch.Tensor
    bias: torch.Tensor
    step: int
    looks: int


def plain(
    train: tuple[Any, Any], val: tuple[Any, Any], classes: int, settings: LayerParams, seed: int
) -> Found:
    """eva's loop as published: a torch Linear, its loss and AdamW, a scheduler stepped per epoch, balanced
    accuracy by torchmetrics, the first best kept, a stop after so many without a better one.
    """
    points, goals = torch.from_numpy(train[0]), torch.from_numpy(train[1])
    single = classes == 2
    layer = nn.Linear(points.shape[1], 1 if single else classes)
    first = _first(points.shape[1], layer.out_features, settings, seed)
    with torch.no_grad():
        layer.weight.copy_(first[:-1].T)
        layer.bias.copy_(first[-1])
    loss_of = nn.BCEWithLogitsLoss() if single else nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=settings.lr)
    if settings.schedule == "third":
        scheduler: Any = torch.optim.lr_scheduler.ConstantLR(
            optimizer
        )  # torch's defaults, as eva's since 2025
    else:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.iterations)
    rows = _few(train[1], classes, settings.per_class, seed)
    draw, step, epoch = np.random.default_rng(seed), 0, 0
    best, stop, waited, looks = -1.0, -np.inf, 0, 0
    found = None
    while step < settings.iterations:
        order = draw.permutation(rows)
        starts = range(0, len(rows), settings.batch)
        for start in starts:
            if step == settings.iterations:
                break
            part = torch.from_numpy(order[start : start + settings.batch])
            optimizer.zero_grad()
            goal = goals[part].float() if single else goals[part]
            loss_of(layer(points[part]).squeeze(-1), goal).backward()
            optimizer.step()
            step += 1
        else:
            epoch += 1
            scheduler.step()
            if epoch % settings.every:
                continue
            looks += 1
            now = balanced(layer, val, classes)
            if now > best:
                best, found = (
                    now,
                    Found(layer.weight.detach().T.clone(), layer.bias.detach().clone(), step, 0),
                )
            waited = 0 if now - settings.delta > stop else waited + 1
            stop = max(stop, now) if waited == 0 else stop
            if waited >= settings.waits(len(rows)):
                break
    assert found is not None
    return replace(found, looks=looks)


def balanced(layer: nn.Linear, val: tuple[Any, Any], classes: int) -> float:
    logits, goals = layer(torch.from_numpy(val[0])).detach().squeeze(-1), torch.from_numpy(val[1])
    # rounded, so that sums of other terms that are equal are no better one, as they are at random in float32
    if classes > 2:
        return round(
            float(MulticlassAccuracy(num_classes=classes, average="macro")(logits.argmax(1), goals)), 5
        )
    shares = logits.sigmoid()
    return round(float((BinaryRecall()(shares, goals) + BinarySpecificity()(shares, goals)) / 2), 5)


@pytest.mark.parametrize(
    ("classes", "change"),
    [
        (4, {}),
        (2, {}),
        (3, {"schedule": "third", "lr": 3e-3}),
        (2, {"per_class": 10, "every": 10, "delta": 1e-4, "iterations": 400}),
        (3, {"iterations": 53}),  # ends within an epoch: what was not validated does not count
        (4, {"patience": 3}),
    ],
)
def test_layers_are_those_of_evas_loop(classes: int, change: dict[str, Any]) -> None:
    """Several seeds at once, which stop at different steps, are each what the plain loop gives alone."""
    train, val = features(70, classes, 1.0, seed=0), features(60, classes, 1.0, seed=1)
    settings = replace(EVA, **{"batch": 16, "iterations": 150, "lr": 1e-2, "seeds": 4, **change})
    layer = train_layer(*train, classes, settings, 3, CPU, val)
    steps = set()
    for number in range(4):
        expected = plain(train, val, classes, settings, 3 + number)
        assert (layer.best[number], layer.validations[number]) == (expected.step, expected.looks)
        torch.testing.assert_close(layer.weight[number], expected.weight, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(layer.bias[number, 0], expected.bias, atol=2e-5, rtol=1e-4)
        steps.add(expected.step)
    assert len(steps) > 1


@pytest.mark.parametrize(
    ("tiles", "patience"),  # batches of 256, 12,500 steps: the numbers in eva's configurations
    [(268, 1250), (3657, 167), (1132, 500), (100_000, 7), (15_303, 42), (2175, 278), (262_144, 3)],
)
def test_patience_is_evas(tiles: int, patience: int) -> None:
    assert EVA.waits(tiles) == patience
    assert LayerOptions(per_class=10).over("eva").waits(20) == 125


def test_an_outer_autocast_changes_nothing() -> None:
    train, val = features(60, 3, 1.0, seed=0), features(30, 3, 1.0, seed=1)
    settings = replace(EVA, batch=16, iterations=40, lr=1e-2, seeds=2)
    calm = train_layer(*train, 3, settings, 0, CPU, val)
    with torch.autocast("cpu", torch.bfloat16):
        found = train_layer(*train, 3, settings, 0, CPU, val)
        logits = found.logits(val[0])
    assert torch.equal(found.weight, calm.weight)
    np.testing.assert_array_equal(logits, calm.logits(val[0]))


def test_too_few_steps_for_a_validation_keep_the_last_weights() -> None:
    train, val = features(60, 3, 1.0, seed=0), features(30, 3, 1.0, seed=1)
    settings = replace(EVA, batch=16, iterations=3, seeds=2)
    found = train_layer(*train, 3, settings, 0, CPU, val)
    assert (found.best, found.validations) == ([0, 0], [0, 0])
    last = train_layer(*train, 3, replace(settings, iterations=4), 0, CPU, val)
    assert last.validations == [1, 1]
    assert not torch.equal(found.weight, last.weight)
    assert not torch.equal(found.weight[0], _first(8, 3, settings, 0)[:-1])


def test_settings_of_a_protocol_are_defaults() -> None:
    eva = LinearParams(protocol="eva").layer
    assert (eva.lr, eva.batch, eva.iterations, eva.weight_decay, eva.seeds) == (3e-4, 256, 12_500, 0.01, 5)
    assert LinearParams().layer == LayerParams()
    assert LayerOptions().differs("eva") == []
    assert LayerOptions(per_class=10, seeds=50).differs("eva") == []
    assert LayerOptions(per_class=10).differs("eva") == ["seeds 5, not 50"]
    assert LayerOptions(lr=1e-3, batch=64).differs("eva") == ["lr 0.001, not 0.0003", "sgd_batch 64, not 256"]
    assert LayerOptions(per_class=5).differs("exaonepath") == ["per_class 5 set"]
    with pytest.raises(UsageError, match="`momentum`: `protocol` eva trains by AdamW"):
        LinearParams(protocol="eva", options=LayerOptions(momentum=0.5))
    with pytest.raises(UsageError, match="`patience`: `protocol` exaonepath takes the last weights"):
        LinearParams(options=LayerOptions(patience=5))
    with pytest.raises(UsageError, match="`per_class` 40: a class has 20 tiles to learn from"):
        train_layer(*features(60, 3, 1.0, 0), 3, replace(EVA, per_class=40), 0, CPU)
