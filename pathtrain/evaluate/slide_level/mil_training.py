"""Training a bag model: as CLAM's released code does, or as eva does.

    clam   Adam, one bag a step, stopped by the validation loss; an equal loss counts as progress
    eva    AdamW, batches of bags in a new order each epoch, stopped by the validation's balanced accuracy, of
           which the first epoch of the highest counts; of numbers and survival by the loss

Cox's likelihood needs several bags at once, which need not fit into memory at once: their scores are
computed without a graph, then bag after bag again with one, each with its part of the gradient. Every step
has an event.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pathtrain.evaluate.slide_level.objectives import Objective
from pathtrain.metrics import median_rank
from pathtrain.models.bag_models import BagModel, Network
from pathtrain.models.mil import MilConfig
from pathtrain.models.replay import Random
from pathtrain.params.slide_level import Schedule

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Read = Callable[[int], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Trained:
    """A trained model: in eval mode, with the weights of the best validation.

    Attributes:
        model: a BagModel on its device.
        epochs: that ran.
        best_epoch: whose weights it has, counted from 0.
        val_loss: theirs: mean loss of the validation bags; with eva's protocol less their balanced accuracy.
    """

    model: nn.Module
    epochs: int
    best_epoch: int
    val_loss: float


def train(
    read: Read,
    objective: Objective,
    train_rows: Ints,
    val_rows: Ints,
    *,
    dim: int,
    network: Network,
    mil: MilConfig,
    config: Schedule,
    seed: int,
    device: torch.device,
) -> Trained:
    """Train one model; the same seed gives the same weights, on the CPU to the bit.

    Args:
        read: row -> features (N, D) float32.
        objective: of all rows.
        train_rows: to learn from.
        val_rows: to stop by.
        dim: D.
        network: the model. mil: of CLAM and ABMIL.
        config: how long, how fast.
        seed: of weights, dropout and the order of bags; the caller's random state is left as it was.
        device: where to.
    """
    devices = [device] if device.type == "cuda" else []
    eva = config.protocol == "eva"
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        order = np.random.default_rng(seed)
        model = objective.model(network, dim, mil).to(device)
        kind = torch.optim.AdamW if eva else torch.optim.Adam
        optimiser = kind(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
        best, best_epoch, lowest, epoch = copy.deepcopy(model.state_dict()), 0, float("inf"), 0
        for epoch in range(config.epochs):
            model.train()
            for rows in steps(objective, train_rows, order, config):
                optimiser.zero_grad()
                if objective.kind == "survival":
                    cox_step(model, read, objective, rows, device)
                else:
                    for row in rows:
                        own = cast(BagModel, model)
                        loss = own.loss(tiles(read, row, device), objective.answer(row), objective.loss)
                        (loss / len(rows)).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            current = _validation(model, read, objective, val_rows, device, eva)
            # as the released codes: for CLAM an equal loss counts as progress, for eva an equal accuracy not
            if current < lowest or (current == lowest and not eva):
                best, best_epoch, lowest = copy.deepcopy(model.state_dict()), epoch, current
            elif epoch - best_epoch >= config.patience and epoch > config.stop_epoch:
                break
        model.load_state_dict(best)
    return Trained(model.eval(), epoch + 1, best_epoch, lowest)


def steps(objective: Objective, rows: Ints, order: np.random.Generator, config: Schedule) -> Iterator[Ints]:
    """The rows of each step of an epoch; of survival, events are dealt out so that no step lacks one."""
    if objective.kind != "survival":
        taken = drawn(objective.labels, rows, order, config.weighted and objective.kind == "classes")
        yield from (taken[start : start + config.batch] for start in range(0, len(taken), config.batch))
        return
    events = order.permutation(rows[objective.labels[rows] == 1])
    others = order.permutation(rows[objective.labels[rows] == 0])
    count = max(1, min(-(-len(rows) // config.batch), len(events)))
    for own, more in zip(np.array_split(events, count), np.array_split(others, count)[::-1], strict=True):
        yield np.concatenate([own, more])


def drawn(labels: Ints, rows: Ints, order: np.random.Generator, weighted: bool) -> Ints:
    """The bags of one epoch, as many as there are: each once; or with replacement, each with a weight of
    one over its class's number of bags, as CLAM's ``--weighted_sample``.
    """
    if not weighted:
        return order.permutation(rows)
    weights = 1 / np.bincount(labels[rows])[labels[rows]]
    return order.choice(rows, size=len(rows), p=weights / weights.sum())


def cox_step(model: nn.Module, read: Read, objective: Objective, rows: Ints, device: torch.device) -> float:
    """Add the gradient of Cox's loss of some bags, in the memory of one; returns the loss.

    A model whose loss has several parts (DSMIL's two streams) has a likelihood for each.
    """
    own = cast(BagModel, model)
    states: list[Random] = []
    parts: list[list[Tensor]] = []

    def note(outputs: Tensor, row: int) -> Tensor:
        parts[-1].append(outputs.detach().reshape(()))
        return outputs.sum()

    with torch.no_grad():
        for row in rows:
            states.append(Random.now(device))
            parts.append([])
            own.loss(tiles(read, row, device), int(row), note)
    after, total = Random.now(device), 0.0
    grads: list[Tensor] = []
    for stream in zip(*parts, strict=True):
        scores = torch.stack(stream).requires_grad_()
        loss = objective.joint(scores, rows)
        grads.append(torch.autograd.grad(loss, scores)[0])
        total += float(loss.detach())
    for place, (row, state) in enumerate(zip(rows, states, strict=True)):
        state.replay(device)  # dropout must drop what it dropped before
        loss = own.loss(tiles(read, row, device), int(row), _against([grad[place] for grad in grads]))
        loss.backward()  # type: ignore[no-untyped-call]
    after.replay(device)
    return total / len(grads)


def _against(grads: list[Tensor]) -> Callable[[Tensor, int], Tensor]:
    """What has, call by call, these gradients to the outputs."""
    left = iter(grads)

    def product(outputs: Tensor, _: int) -> Tensor:
        return (outputs * next(left)).sum()

    return product


def predict(model: nn.Module, objective: Objective, read: Read, rows: Ints, device: torch.device) -> Floats:
    """(c, C) probabilities of the rows, or (c, 1) numbers or log hazards."""
    return objective.told(_outputs(model, read, rows, device))


def tiles(read: Read, row: int, device: torch.device) -> Tensor:
    """A bag's features on the device."""
    return torch.from_numpy(read(int(row))).to(device)


def _outputs(model: nn.Module, read: Read, rows: Ints, device: torch.device) -> Tensor:
    with torch.inference_mode():
        return torch.stack([model(tiles(read, row, device))[0] for row in rows])


def _validation(
    model: nn.Module, read: Read, objective: Objective, rows: Ints, device: torch.device, eva: bool
) -> float:
    """What is to be low."""
    model.eval()
    outputs = _outputs(model, read, rows, device)
    if eva and objective.kind in ("classes", "ordinal"):
        told, labels = objective.told(outputs), objective.labels[rows]
        guesses = told.argmax(axis=1) if objective.kind == "classes" else median_rank(told)
        return -float(np.mean([(guesses == label)[labels == label].mean() for label in np.unique(labels)]))
    with torch.inference_mode():
        if objective.kind == "survival":
            return float(objective.joint(outputs[:, 0], rows))
        losses = [objective.loss(own, objective.answer(row)) for own, row in zip(outputs, rows, strict=True)]
        return float(torch.stack(losses).mean())
