"""DINO's loss: cross-entropy between a centred, sharpened teacher and a student that saw other views.

    L = 1/P  sum over pairs (g, v), v != g, of  mean over b of  - q_gb . log p_vb
    p = softmax(student / student_temp),  q = softmax((teacher - center) / teacher_temp),  P = G (V - 1)
    center <- m center + (1 - m) mean of the teacher's outputs

Caron et al. 2021, "Emerging properties in self-supervised vision transformers", algorithm 1 and
section 3.1; github.com/facebookresearch/dino, main_dino.py, class DINOLoss. Here the pairs are not
looped over: the student's log-probabilities are summed once, which leaves G products instead of P.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pathtrain.losses.precision import wide


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, student_temp: float, teacher_temp: float
) -> Tensor:
    """The loss of a batch: the mean of ``dino_terms`` over its tiles, a scalar in nats."""
    return dino_terms(student, teacher, center, student_temp, teacher_temp).each.mean()


class Terms(NamedTuple):
    """What ``dino_terms`` finds of B tiles.

    Attributes:
        each: (B,) losses in nats.
        entropy: how sure the teacher is, a scalar without graph: the mean of - q . log q, in nats, from 0
            (one output has everything) to log K (it knows nothing).
        outputs: (K,) the mean of q over views and tiles, without graph: which outputs it uses at all.
    """

    each: Tensor
    entropy: Tensor
    outputs: Tensor


def dino_terms(
    student: Tensor, teacher: Tensor, center: Tensor, student_temp: float, teacher_temp: float | Tensor
) -> Terms:
    """Every tile's loss, and what the teacher says, in float32 also under autocast (float64 stays).

    Args:
        student: (V, B, K) head outputs of all views; the teacher's views come first.
        teacher: (G, B, K) head outputs of the global views, G <= V; gets no gradient.
        center: (K,).
        student_temp, teacher_temp: above 0.

    Raises:
        ValueError: shapes that do not belong together, or no pair of different views.
    """
    # v = student views, g = teacher views, b = batch, k = outputs
    v, g = len(student), len(teacher)
    if student.shape[1:] != teacher.shape[1:] or center.shape != student.shape[2:]:
        shapes = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(center.shape)}"
        raise ValueError(f"expected student (V, B, K), teacher (G, B, K), center (K,); got {shapes}")
    if not 1 <= g <= v or v < 2:
        raise ValueError(f"expected 1 <= G <= V and V >= 2 views; got G = {g}, V = {v}")
    log_p = functional.log_softmax(wide(student) / student_temp, dim=-1)
    with torch.no_grad():
        log_q = functional.log_softmax((wide(teacher) - center) / teacher_temp, dim=-1)
        q = log_q.exp()
        # an output of probability 0 has log q = -inf at extreme temperatures, and adds nothing
        entropy = -(q * log_q.clamp(min=-1e4)).sum(dim=-1).mean()
    others = log_p.sum(dim=0) - log_p[:g]  # (g, b, k): of every view but the teacher's own
    each = -(q * others).sum(dim=(0, 2)) / (g * (v - 1))  # einsum would be bfloat16 under autocast
    return Terms(each, entropy, q.mean(dim=(0, 1)))


def updated_center(center: Tensor, mean: Tensor, momentum: float) -> Tensor:
    """The centre after a batch whose teacher outputs have this mean (K,) over views and tiles."""
    return center * momentum + mean * (1 - momentum)
