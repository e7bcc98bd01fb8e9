"""Cox's likelihood: against its formula in float64, lifelines, and itself slide by slide."""

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter

from pathtrain.losses.survival import cox_loss, cox_of_one

COUNT = 40


def cohort(seed: int = 0, *, ties: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, times (many equal) and events."""
    rng = np.random.default_rng(seed)
    times = rng.integers(1, 8, COUNT).astype(float) if ties else rng.permutation(COUNT).astype(float)
    return (
        torch.from_numpy(rng.normal(size=COUNT)),
        torch.tensor(times),
        torch.tensor(rng.random(COUNT) < 0.6),
    )


def by_hand(scores: np.ndarray, times: np.ndarray, events: np.ndarray) -> float:
    """Efron's formula, time by time."""
    total = 0.0
    for time in np.unique(times[events]):
        tied, at_risk = (times == time) & events, times >= time
        deaths = int(tied.sum())
        for earlier in range(deaths):
            left = np.exp(scores[at_risk]).sum() - earlier / deaths * np.exp(scores[tied]).sum()
            total += float(np.log(left))
        total -= float(scores[tied].sum())
    return total / int(events.sum())


@pytest.mark.parametrize("ties", [True, False])
def test_loss_and_gradient_against_the_formula(ties: bool) -> None:
    scores, times, events = cohort(ties=ties)
    scores.requires_grad_()
    loss = cox_loss(scores, times, events)
    loss.backward()  # type: ignore[no-untyped-call]
    values = scores.detach().numpy()
    assert loss.item() == pytest.approx(by_hand(values, times.numpy(), events.numpy()), abs=1e-12)
    assert scores.grad is not None
    for place in range(0, COUNT, 7):
        ends = []
        for step in (1e-6, -1e-6):
            moved = values.copy()
            moved[place] += step
            ends.append(by_hand(moved, times.numpy(), events.numpy()))
        assert scores.grad[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


def test_log_likelihood_is_that_of_lifelines() -> None:
    _, times, events = cohort()
    x = np.random.default_rng(1).normal(size=(COUNT, 2))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "time": times.numpy(), "event": events.numpy()})
    fitted = CoxPHFitter().fit(frame, "time", "event")
    own = cox_loss(torch.from_numpy(x) @ torch.tensor(fitted.params_.to_numpy()), times, events)
    assert -own.item() * int(events.sum()) == pytest.approx(fitted.log_likelihood_, abs=1e-9)


def test_slide_by_slide_with_a_memory_is_the_gradient_of_all() -> None:
    """A step holds one slide: the mean over all slides of its gradients is the full batch's."""
    scores, times, events = cohort()
    whole = scores.clone().requires_grad_()
    loss = cox_loss(whole, times, events)
    loss.backward()  # type: ignore[no-untyped-call]
    found = []
    for row in range(COUNT):
        own = scores[row].clone().requires_grad_()
        one = cox_of_one(own, scores, times, events, row)
        one.backward()  # type: ignore[no-untyped-call]
        assert one.item() == pytest.approx(loss.item(), abs=1e-12)
        assert own.grad is not None
        found.append(own.grad.item() / COUNT)
    assert whole.grad is not None
    np.testing.assert_allclose(found, whole.grad.numpy(), rtol=0, atol=1e-14)


def test_slides_that_were_not_seen_are_not_at_risk() -> None:
    scores, times, events = cohort()
    memory = torch.full_like(scores, torch.nan)
    memory[5:] = scores[5:]
    rows = [2, *range(5, COUNT)]
    expected = cox_loss(scores[rows], times[rows], events[rows])
    found = cox_of_one(scores[2].clone().requires_grad_(), memory, times, events, 2)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    alone = cox_of_one(
        scores[2].clone().requires_grad_(), torch.full_like(scores, torch.nan), times, events, 2
    )
    assert alone.item() == 0


@pytest.mark.parametrize("slides", [1, 5])
def test_without_an_event_it_is_nothing_and_not_nan(slides: int) -> None:
    """lasso-net/lassonet#52: batches of censored samples alone; Novartis/torchsurv#35: batches of one."""
    scores = torch.randn(slides, requires_grad=True)
    loss = cox_loss(scores, torch.ones(slides), torch.zeros(slides, dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_in_float32_under_autocast_and_of_scores_of_any_size() -> None:
    scores, times, events = cohort()
    expected = cox_loss(scores, times, events)
    with torch.autocast("cpu", torch.bfloat16):
        found = cox_loss(scores.float(), times, events)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    large = torch.tensor([300.0, -300.0, 80.0, 0.0], requires_grad=True)
    loss = cox_loss(large, torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.ones(4, dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx((0 + 80 + 300 + 80 - np.log(2) - 80) / 4, rel=1e-5)
    assert large.grad is not None
    assert large.grad.isfinite().all()
