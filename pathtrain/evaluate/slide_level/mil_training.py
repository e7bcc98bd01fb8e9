"""Training a bag model as CLAM's released code does: one slide a step, stopped by the validation loss."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pathtrain.models.mil import Mil, MilConfig, bag_loss
from pathtrain.params.slide_level import TrainConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Read = Callable[[int], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Trained:
    """A trained model: in eval mode, with the weights of the lowest validation loss.

    Attributes:
        model: on its device.
        epochs: that ran.
        best_epoch: whose weights it has, counted from 0.
        val_loss: theirs, mean cross-entropy of the validation slides.
    """

    model: Mil
    epochs: int
    best_epoch: int
    val_loss: float


def train(
    read: Read,
    labels: Ints,
    train_rows: Ints,
    val_rows: Ints,
    *,
    dim: int,
    classes: int,
    mil: MilConfig,
    config: TrainConfig,
    seed: int,
    device: torch.device,
) -> Trained:
    """Train one model; the same seed gives the same weights, on the CPU to the bit.

    Args:
        read: row -> features (N, D) float32.
        labels: (n,) class numbers of all rows.
        train_rows: to learn from.
        val_rows: to stop by.
        dim: D.
        classes: C.
        mil: the model.
        config: how long, how fast.
        seed: of weights, dropout and the order of slides; the caller's random state is left as it was.
        device: where to.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        order = np.random.default_rng(seed)
        model = Mil(dim, classes, mil).to(device)
        optimiser = torch.optim.Adam(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        best, best_epoch, lowest, epoch = copy.deepcopy(model.state_dict()), 0, float("inf"), 0
        for epoch in range(config.epochs):
            model.train()
            for row in drawn(labels, train_rows, order, config.weighted):
                optimiser.zero_grad()
                loss = model.loss(tiles(read, row, device), int(labels[row]))
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            current = _loss(model, read, labels, val_rows, device)
            if current <= lowest:  # as the released code: an equal loss counts as progress
                best, best_epoch, lowest = copy.deepcopy(model.state_dict()), epoch, current
            elif epoch - best_epoch >= config.patience and epoch > config.stop_epoch:
                break
        model.load_state_dict(best)
    return Trained(model.eval(), epoch + 1, best_epoch, lowest)


def drawn(labels: Ints, rows: Ints, order: np.random.Generator, weighted: bool) -> Ints:
    """The slides of one epoch, as many as there are: each once; or with replacement, each with a weight of
    one over its class's number of slides, as CLAM's ``--weighted_sample``.
    """
    if not weighted:
        return order.permutation(rows)
    weights = 1 / np.bincount(labels[rows])[labels[rows]]
    return order.choice(rows, size=len(rows), p=weights / weights.sum())


def predict(model: Mil, read: Read, rows: Ints, device: torch.device) -> Floats:
    """Class probabilities (c, C) of the rows."""
    with torch.inference_mode():
        return np.stack(
            [model(tiles(read, row, device))[0].double().softmax(dim=0).cpu().numpy() for row in rows]
        )


def tiles(read: Read, row: int, device: torch.device) -> Tensor:
    """A slide's features on the device."""
    return torch.from_numpy(read(int(row))).to(device)


def _loss(model: Mil, read: Read, labels: Ints, rows: Ints, device: torch.device) -> float:
    model.eval()
    with torch.inference_mode():
        losses = [bag_loss(model(tiles(read, row, device))[0], int(labels[row])) for row in rows]
        return float(torch.stack(losses).mean())
