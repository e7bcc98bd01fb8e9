"""Sinkhorn-Knopp: a teacher's assignments, made so that a batch uses all outputs alike.

Cuturi 2013; Caron et al. 2020, "Unsupervised learning of visual features by contrasting cluster assignments"
(SwAV), section 3.1; DINOv2 uses it in place of the centre. Of Q = exp(score / temp), (N, K), the columns are
brought to the same sum, then the rows (one a sample), some times over. Each of that multiplies a column or a
row by a number, so Q keeps the form

    Q_nk = exp(score_nk / temp + a_n + b_k)

and as the rows come last, a sample's assignments are softmax(score / temp + b). Only b, one number an output,
depends on the other samples: bringing the columns of assignments to the same sum takes the logarithm of
the sums from b. The first sums are found by logarithms: exp overflows in float32 where a score is above 88
temp, which is 3.5 at a temperature of .04. Later ones need none: a column had a sum of 1 before the rows were
brought to 1, so that it has at least 1 / (N K) afterwards.
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
        shift = _first(scores, temp, ranks) if shift is None else _next(scores, temp, ranks, shift)
        shift = shift - shift.mean()
    if shift is None:
        first = next(iter(_chunks(scores)))
        shift = wide(first).new_zeros(first.shape[1:])
    return shift


def _first(scores: Scores, temp: float | Tensor, ranks: Ranks | None) -> Tensor:
    """b from plain sums of exp."""
    top: Tensor | None = None
    for chunk in _chunks(scores):
        if chunk.dim() != 2 or (top is not None and chunk.shape[1:] != top.shape):
            raise ValueError(f"expected scores (n, K); got {tuple(chunk.shape)}")
        logits = wide(chunk) / temp
        if top is None:
            top = logits.new_full(logits.shape[1:], float("-inf"))
            total = torch.zeros_like(top)
        if not len(chunk):
            continue
        most = torch.maximum(top, logits.amax(dim=0))
        base = _finite(most)
        total = total * torch.exp(top - base) + logits.sub_(base).exp_().sum(dim=0)
        top = most
    if top is None:
        raise ValueError("no chunk of scores; one of 0 rows tells the number of outputs")
    if ranks is not None and ranks.world > 1:
        most = ranks.max(top.clone())
        total = ranks.sum(total * torch.exp(top - _finite(most)))
        top = most
    return torch.where(total == 0, torch.zeros_like(top), -(top + total.log()))  # 0: no sample anywhere


def _next(scores: Scores, temp: float | Tensor, ranks: Ranks | None, shift: Tensor) -> Tensor:
    """b after one more iteration."""
    total = torch.zeros_like(shift)
    rate = torch.as_tensor(1 / temp, dtype=shift.dtype, device=shift.device)
    for chunk in _chunks(scores):
        total += torch.softmax(torch.addcmul(shift, chunk, rate), dim=1).sum(dim=0)
    if ranks is not None:
        total = ranks.sum(total)
    return torch.where(total == 0, shift, shift - total.log())


def _chunks(scores: Scores) -> Iterable[Tensor]:
    if isinstance(scores, Tensor):
        return [scores]
    return scores() if callable(scores) else scores


def _finite(most: Tensor) -> Tensor:
    """0 where there is no number yet: -inf less -inf would be no number."""
    return torch.where(most == float("-inf"), torch.zeros_like(most), most)
