"""DINO's loss: cross-entropy between a centred, sharpened teacher and a student that saw other views.

    L = 1/P  sum over pairs (g, v), v != g, of  mean over b of  - q_gb . log p_vb
    p = softmax(student / student_temp),  q = softmax((teacher - center) / teacher_temp),  P = G (V - 1)
    center <- m center + (1 - m) mean of the teacher's outputs

Caron et al. 2021, "Emerging properties in self-supervised vision transformers", algorithm 1 and
section 3.1; github.com/facebookresearch/dino, main_dino.py, class DINOLoss. Here the pairs are not
looped over: the student's log-probabilities are summed once, which leaves G products instead of P.
"""

import torch
from torch import Tensor
from torch.nn import functional


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, student_temp: float, teacher_temp: float
) -> Tensor:
    """The loss of a batch: the mean of ``dino_terms`` over its tiles, a scalar in nats."""
    return dino_terms(student, teacher, center, student_temp, teacher_temp)[0].mean()


def dino_terms(
    student: Tensor, teacher: Tensor, center: Tensor, student_temp: float, teacher_temp: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Every tile's loss, and how sure the teacher is, computed in float32 (float64 stays).

    Args:
        student: (V, B, K) head outputs of all views; the teacher's views come first.
        teacher: (G, B, K) head outputs of the global views, G <= V; gets no gradient.
        center: (K,).
        student_temp, teacher_temp: above 0.

    Returns:
        (B,) losses in nats; and the teacher's entropy, a scalar without graph: the mean of - q . log q,
        from 0 (one output has everything) to log K (it knows nothing).

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
    log_p = functional.log_softmax(_wide(student) / student_temp, dim=-1)
    with torch.no_grad():
        log_q = functional.log_softmax((_wide(teacher) - center) / teacher_temp, dim=-1)
        q = log_q.exp()
        # an output of probability 0 has log q = -inf at extreme temperatures, and adds nothing
        entropy = -(q * log_q.clamp(min=-1e4)).sum(dim=-1).mean()
    others = log_p.sum(dim=0) - log_p[:g]  # (g, b, k): of every view but the teacher's own
    return -torch.einsum("gbk,gbk->b", q, others) / (g * (v - 1)), entropy


def updated_center(center: Tensor, mean: Tensor, momentum: float) -> Tensor:
    """The centre after a batch whose teacher outputs have this mean (K,) over views and tiles."""
    return center * momentum + mean * (1 - momentum)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
