"""Values that change over a run, each a pure function of the step: nothing to save, nothing to restore.

``cosine`` and ``warmed_cosine`` give the values of the original DINO code's ``cosine_scheduler``
(github.com/facebookresearch/dino, utils.py), at step granularity.
"""

import math

from pathtrain.recipes.optim import OptimConfig


def cosine(step: int, total: int, start: float, end: float) -> float:
    """Half a cosine from ``start`` at step 0 towards ``end``, which step ``total`` would have."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * step / total))


def warmed_cosine(step: int, total: int, warmup: int, peak: float, end: float) -> float:
    """Linear from 0 at step 0 to ``peak`` at step ``warmup - 1``, then half a cosine towards ``end``."""
    if step < warmup:
        return peak * step / max(1, warmup - 1)
    return cosine(step - warmup, max(1, total - warmup), peak, end)


def learning_rate(step: int, total: int, optim: OptimConfig) -> float:
    """The learning rate at a step of ``total``."""
    return warmed_cosine(step, total, optim.warmup_steps, optim.lr, optim.min_lr)


def linear(step: int, steps: int, start: float, end: float) -> float:
    """Linear from ``start`` at step 0 to ``end`` at step ``steps``, and ``end`` from there on.

    In steps, not epochs: the original's per-epoch teacher temperature fails when its warm-up has more
    epochs than the run.
    """
    return end if step >= steps else start + (end - start) * step / steps
