"""CLAM and ABMIL learn a bag problem whose answer is one tile, look at that tile, and repeat themselves."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers.featured import key_bags
from sklearn.metrics import roc_auc_score

from pathtrain.evaluate.slide_level import mil_training
from pathtrain.evaluate.slide_level.mil_training import Trained, predict, train
from pathtrain.evaluate.slide_level.objectives import Objective
from pathtrain.models.mil import MilConfig
from pathtrain.params.slide_level import SlidesConfig, TrainConfig

CPU = torch.device("cpu")
BAGS, KEYS = key_bags(450)
LABELS = np.array([key is not None for key in KEYS], dtype=np.int64)
OBJECTIVE = Objective("classes", 2, LABELS)
TRAIN, VAL, TEST = np.arange(40), np.arange(40, 50), np.arange(50, 450)
QUICK = TrainConfig(lr=1e-3, epochs=25)


def trained(method: str = "clam-sb", seed: int = 0, config: TrainConfig = QUICK, **more: Any) -> Trained:
    return train(
        BAGS.__getitem__,
        OBJECTIVE,
        TRAIN,
        VAL,
        dim=8,
        network=method,  # type: ignore[arg-type]
        mil=MilConfig(method=method, **more),  # type: ignore[arg-type]
        config=config.of("clam"),
        seed=seed,
        device=CPU,
    )


SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in ("clam-sb", "clam-mb")]


@pytest.mark.parametrize("method", [*SLOW, "abmil"])
def test_one_key_tile_decides_and_is_found(method: str) -> None:
    done = trained(method)
    probabilities = predict(done.model, OBJECTIVE, BAGS.__getitem__, TEST, CPU)
    assert roc_auc_score(LABELS[TEST], probabilities[:, 1]) > 0.95
    found = []
    for row in TEST:
        if KEYS[row] is not None:
            _, scores, _ = done.model(torch.from_numpy(BAGS[row]))
            found.append(int(scores[-1].argmax()) == KEYS[row])
    assert np.mean(found) > 0.95


def test_same_seed_same_weights_another_seed_others() -> None:
    short = TrainConfig(epochs=2)
    state = torch.random.get_rng_state()
    first = trained(config=short).model.state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random state is left alone
    torch.manual_seed(99)
    again = trained(config=short).model.state_dict()
    other = trained(seed=1, config=short).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed.0.weight"], other["embed.0.weight"])


def test_weighted_draws_are_by_inverse_class_frequency() -> None:
    """As torch's WeightedRandomSampler with one over the class's slides, which CLAM's commands use."""
    labels = np.array([0] * 30 + [1] * 6 + [0] * 4)
    rows = np.arange(36)  # 30 of one class, 6 of the other
    order = np.random.default_rng(0)
    epochs = np.stack([mil_training.drawn(labels, rows, order, True) for _ in range(400)])
    assert epochs.shape == (400, 36)
    assert epochs.max() < 36
    # half and half; the SD of the mean of 14,400 draws is .004
    assert (labels[epochs] == 1).mean() == pytest.approx(0.5, abs=0.015)
    counts = np.bincount(epochs.ravel(), minlength=36) / 400
    assert counts[:30] == pytest.approx(np.full(30, 36 / 2 / 30), abs=0.15)
    assert counts[30:] == pytest.approx(np.full(6, 36 / 2 / 6), abs=0.35)
    again = mil_training.drawn(labels, rows, np.random.default_rng(0), True)
    assert (again == epochs[0]).all()
    assert sorted(mil_training.drawn(labels, rows, order, False)) == rows.tolist()


def test_published_settings_are_the_defaults() -> None:
    clam = TrainConfig().of("clam")
    assert (clam.weighted, clam.lr, clam.weight_decay, clam.batch) == (True, 2e-4, 1e-5, 1)
    assert (clam.epochs, clam.patience, clam.stop_epoch) == (200, 20, 50)
    eva = TrainConfig().of("eva")
    assert (eva.weighted, eva.lr, eva.weight_decay, eva.batch) == (False, 1e-3, 0.01, 32)
    assert (eva.epochs, eva.patience) == (100, 20)
    assert SlidesConfig(protocol="eva").settled().seeds == 20
    assert TrainConfig(lr=1e-4).of("eva").lr == 1e-4


def losses_of(values: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation losses as given."""
    left = iter(values)
    monkeypatch.setattr(mil_training, "_validation", lambda *_: next(left))


@pytest.mark.parametrize(
    ("losses", "epochs", "best"),
    [
        ([1.0, 0.5, *[2.0] * 28], 7, 1),  # patience is over at epoch 4, but only epochs beyond 5 may stop
        ([1.0, 0.5, 0.5, 0.5, 0.5, *[2.0] * 25], 8, 4),  # an equal loss counts as progress
        ([*[1.0] * 29, 0.9], 30, 29),
    ],
)
def test_stops_by_patience(
    losses: list[float], epochs: int, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "TRAIN", np.arange(1))
    losses_of(losses, monkeypatch)
    done = trained(config=TrainConfig(epochs=30, patience=3, stop_epoch=5))
    assert (done.epochs, done.best_epoch) == (epochs, best)


def test_keeps_the_weights_of_the_lowest_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    losses_of([3.0, 1.0, 2.0, 2.0], monkeypatch)
    longer = trained(config=TrainConfig(epochs=4)).model.state_dict()
    losses_of([3.0, 1.0], monkeypatch)
    shorter = trained(config=TrainConfig(epochs=2)).model.state_dict()
    assert all(torch.equal(longer[name], shorter[name]) for name in longer)
