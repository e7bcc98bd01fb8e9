"""Sinkhorn-Knopp: a teacher's assignments, made so that a batch uses all outputs alike.

Cuturi 2013; Caron et al. 2020, "Unsupervised learning of visual features by contrasting cluster assignments"
(SwAV), section 3.1; DINOv2 uses it in place of the centre. Of Q = exp(score / temp), (N, K), the columns are
brought to the same sum, then the rows (one a sample), some times over. Each of that multiplies a column or a
row by a number, so Q keeps the form

    Q_nk = exp(score_nk / temp + a_n + b_k)

and as the rows come last, a sample's assignments are softmax(score / temp + b). Only b, one number an output,
depends on the other samples. Here it is found by logarithms: exp overflows in float32 where a score is above
88 temp, which is 3.5 at a temperature of .04.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from pathtrain.distributed.ranks import Ranks
from pathtrain.losses.precision import wide

Scores = Tensor | Sequence[Tensor] | Callable[[], Iterable[Tensor]]


@torch.no_grad()
def sinkhorn_shift(
    scores: Scores, temp: float | Tensor, iterations: int = 3, ranks: Ranks | None = None
) -> Tensor:
    """b above: assignments are softmax(score / temp + b), those of centring with the centre -temp b.

    In float32 also under autocast; float64 stays. All ranks must call it.

    Args:
        scores: (N, K) of this rank's samples; or chunks of them (n, K), of which there is at least one, maybe
            without rows; or what gives the chunks, called once in each iteration, so that scores need not
            be kept. Ranks may have different numbers of samples; some may have none.
        temp: above 0.
        iterations: 0 gives the plain softmax.
        ranks: None for this process alone.

    Returns:
        (K,), of mean 0, without graph; zeros where no rank has a sample.

    Raises:
        ValueError: scores that are not (n, K), or no chunk.
    """
    shift: Tensor | None = None
    for _ in range(iterations):
        top: Tensor | None = None
        total: Tensor | None = None
        for chunk in _chunks(scores):
            if chunk.dim() != 2 or (shift is not None and chunk.shape[1:] != shift.shape):
                raise ValueError(f"expected scores (n, K); got {tuple(chunk.shape)}")
            logits = wide(chunk) / temp
            if shift is not None:  # bring the rows to a sum of 1
                logits = logits - torch.logsumexp(logits + shift, dim=1, keepdim=True)
            if top is None or total is None:
                top = logits.new_full(logits.shape[1:], float("-inf"))
                total = torch.zeros_like(top)
            top, total = _added(top, total, logits)
        if top is None or total is None:
            raise ValueError("no chunk of scores; one of 0 rows tells the number of outputs")
        if ranks is not None and ranks.world > 1:
            most = ranks.max(top.clone())
            total = ranks.sum(total * torch.exp(top - _finite(most)))
            top = most
        shift = -(top + total.log())
        # no sample anywhere: an output's sum is 0
        shift = torch.where(total == 0, torch.zeros_like(shift), shift - shift.mean())
    if shift is None:
        first = next(iter(_chunks(scores)))
        shift = wide(first).new_zeros(first.shape[1:])
    return shift


def _chunks(scores: Scores) -> Iterable[Tensor]:
    if isinstance(scores, Tensor):
        return [scores]
    return scores() if callable(scores) else scores


def _added(top: Tensor, total: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest number of each column so far (K,), and the sum of exp of all above it (K,)."""
    if not len(logits):
        return top, total
    most = torch.maximum(top, logits.amax(dim=0))
    base = _finite(most)
    return most, total * torch.exp(top - base) + torch.exp(logits - base).sum(dim=0)


def _finite(most: Tensor) -> Tensor:
    """0 where there is no number yet: -inf less -inf would be no number."""
    return torch.where(most == float("-inf"), torch.zeros_like(most), most)
