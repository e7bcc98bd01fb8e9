"""Linear heads on a vector per bag, standardised on the training bags, with a ridge of half the squares.

    classes      logistic regression, C = 1
    ordinal      CORAL's thresholds on one score
    regression   ridge regression, alpha = 1
    survival     Cox with Efron's ties

The last three are those losses summed over the bags (events) plus half the sum of squared weights, as
sklearn's C = 1 and alpha = 1 have it. Fitted in float64, without randomness.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pathtrain.evaluate.slide_level.objectives import Objective
from pathtrain.losses.survival import cox_loss
from pathtrain.losses.tasks import rank_probabilities

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
STEPS = 500  # of L-BFGS; convex, and standardised


def linear(objective: Objective, vectors: npt.NDArray[np.float32], train: Ints, test: Ints) -> Floats:
    """(c, C) probabilities of the test rows, (c, 1) numbers or log hazards.

    Args:
        vectors: (n, D) of all rows.
    """
    x, wanted = vectors[train].astype(np.float64), vectors[test].astype(np.float64)
    if objective.kind == "classes":
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        head.fit(x, objective.labels[train])
        return np.asarray(head.predict_proba(wanted), dtype=np.float64)
    if objective.kind == "regression":
        assert objective.numbers is not None
        ridge = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
        ridge.fit(x, objective.numbers[train])
        return np.asarray(ridge.predict(wanted), dtype=np.float64)[:, None]
    scaler = StandardScaler().fit(x)
    scaled, others = torch.from_numpy(scaler.transform(x)), torch.from_numpy(scaler.transform(wanted))
    if objective.kind == "survival":
        assert objective.numbers is not None
        times = torch.from_numpy(objective.numbers[train])
        weights = cox_weights(scaled, times, torch.from_numpy(objective.labels[train] == 1))
        return np.asarray((others @ weights).numpy(), dtype=np.float64)[:, None]
    ranks = torch.from_numpy(objective.labels[train])
    weights, thresholds = coral_weights(scaled, ranks, objective.classes)
    return np.asarray(rank_probabilities((others @ weights)[:, None] + thresholds).numpy(), dtype=np.float64)


def cox_weights(x: Tensor, times: Tensor, events: Tensor, ridge: float = 1.0) -> Tensor:
    """(D,) of a Cox model: the events' negative log likelihood plus ridge / 2 times the squared weights.

    Args:
        x: (n, D) float64. times: (n,). events: (n,) bool.
    """
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    count = int(events.sum())

    def loss() -> Tensor:
        return count * cox_loss(x @ weights, times, events) + ridge / 2 * (weights**2).sum()

    _minimise([weights], loss)
    return weights.detach()


def coral_weights(x: Tensor, ranks: Tensor, classes: int, ridge: float = 1.0) -> tuple[Tensor, Tensor]:
    """(D,) and the (C - 1,) thresholds' biases of CORAL, which are not in the ridge."""
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(classes - 1, dtype=torch.float64, requires_grad=True)
    above = (ranks[:, None] > torch.arange(classes - 1)).double()

    def loss() -> Tensor:
        logits = (x @ weights)[:, None] + biases
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, above, reduction="sum")
        return fit + ridge / 2 * (weights**2).sum() + 1e-6 * (biases**2).sum()  # a rank that no bag has

    _minimise([weights, biases], loss)
    return weights.detach(), biases.detach()


def _minimise(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=STEPS, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        found = loss()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(closure)  # type: ignore[no-untyped-call]
