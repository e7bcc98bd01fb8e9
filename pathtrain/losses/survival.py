"""Cox's partial likelihood with Efron's ties.

    -log L = sum over events i of  log( sum_{t_j >= t_i} e^{s_j}  -  l_i / d_i sum_{ties} e^{s_j} )  -  s_i

l_i counts the events of the same time from 0 to d_i - 1 (Efron 1977). All in logarithms, so that no score
is too large; in float32 also under autocast, float64 stays.
"""

import torch
from torch import Tensor

from pathtrain.losses.precision import wide


def cox_loss(scores: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """Mean over the events of the negative log partial likelihood.

    Args:
        scores: (n,) log hazards: higher is earlier.
        times: (n,) at least 0.
        events: (n,) bool, whether it came at that time.

    Returns:
        Scalar with graph; 0, with gradients of 0, if there is no event.
    """
    scores = wide(scores)
    found = events.bool()
    count = int(found.sum())
    if not count:
        return (scores * 0).sum()
    order = torch.argsort(times, descending=True, stable=True)
    scores, found = scores[order], found[order]
    _, group, sizes = torch.unique_consecutive(times[order], return_inverse=True, return_counts=True)
    at_risk = torch.logcumsumexp(scores, dim=0)[sizes.cumsum(0) - 1]  # of each time: all that are not earlier
    own, tied = scores[found], group[found]
    groups = len(sizes)
    highest = own.detach().new_full((groups,), -torch.inf).scatter_reduce(0, tied, own.detach(), "amax")
    sums = own.new_zeros(groups).index_add(0, tied, (own - highest[tied]).exp())
    deaths = torch.bincount(tied, minlength=groups)
    # events of a time lie side by side: their number within it, from 0
    places = torch.arange(len(own), device=own.device) - (deaths.cumsum(0) - deaths)[tied]
    share = (highest[tied] + sums[tied].log() - at_risk[tied]).clamp(max=0).exp()
    earlier = places.to(own.dtype) / deaths[tied].to(own.dtype)
    left = at_risk[tied] + torch.log1p(-earlier * share)
    return (left - own).sum() / count


def cox_of_one(score: Tensor, memory: Tensor, times: Tensor, events: Tensor, row: int) -> Tensor:
    """What one slide adds to the loss of all, with the scores of the others as they were last seen.

    The value is the mean over the events known so far. The gradient to ``score`` is the number of known
    slides times that of the full batch: the mean of it over all slides is the full batch's gradient, if the
    remembered scores are current.

    Args:
        score: () of the slide, with graph.
        memory: (n,) scores of all training slides, NaN where none was seen yet.
        times: (n,).
        events: (n,) bool.
        row: of the slide.

    Returns:
        Scalar.
    """
    seen = ~memory.isnan()
    seen[row] = True
    known = wide(memory).clone()
    known[row] = 0
    mine = torch.zeros_like(known, dtype=torch.bool)
    mine[row] = True
    scores = torch.where(mine, wide(score).to(known.dtype), known)
    loss = cox_loss(scores[seen], times[seen], events[seen])
    return loss.detach() + int(seen.sum()) * (loss - loss.detach())
