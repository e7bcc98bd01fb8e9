"""iBOT's loss: of a masked patch the student guesses what the teacher, who sees it, says of it.

    L = 1/C  sum over crops c of  1/n_c  sum over the n_c masked patches of c of  - q . log p
    p = softmax(student / student_temp),  q = softmax((teacher - center) / teacher_temp)

C counts all crops, those without masked patches too. Zhou et al. 2022, "iBOT: image BERT pre-training with
online tokenizer", section 3.2; as DINOv2 has it: github.com/facebookresearch/dinov2, ibot_patch_loss.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pathtrain.losses.precision import wide


class Terms(NamedTuple):
    """What ``ibot_terms`` finds of B tiles.

    Attributes:
        each: (B,) losses in nats; their mean is L.
        entropy: L with q in place of p, which is the least it can be: a scalar in nats, without graph.
    """

    each: Tensor
    entropy: Tensor


def ibot_terms(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    student_temp: float,
    teacher_temp: float | Tensor,
    crop: Tensor,
    weight: Tensor,
    tiles: int,
) -> Terms:
    """Every tile's loss, in float32 also under autocast (float64 stays).

    Args:
        student, teacher: (M, K) head outputs of masked patches; M may be 0, and the loss then is 0 with a
            graph. The teacher gets no gradient.
        center: (K,); for Sinkhorn-Knopp's assignments -teacher_temp times the shift (sinkhorn_shift).
        student_temp, teacher_temp: above 0.
        crop: (M,) the number of each patch's tile, 0 to B - 1.
        weight: (M,) 1 / (masked patches of the patch's crop x crops of a tile); 0 for rows that only fill up.
        tiles: B.

    Raises:
        ValueError: shapes that do not belong together.
    """
    rows = student.shape[:1]
    if student.shape != teacher.shape or center.shape != student.shape[1:] or student.dim() != 2:
        shapes = f"{tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(center.shape)}"
        raise ValueError(f"expected student (M, K), teacher (M, K), center (K,); got {shapes}")
    if crop.shape != rows or weight.shape != rows:
        shapes = f"{tuple(crop.shape)} and {tuple(weight.shape)}"
        raise ValueError(f"expected crop and weight of {len(student)} patches; got {shapes}")
    log_p = functional.log_softmax(wide(student) / student_temp, dim=-1)
    weight = weight.to(log_p.dtype)
    with torch.no_grad():
        q = torch.softmax((wide(teacher) - center) / teacher_temp, dim=-1)
        entropy = (torch.special.entr(q).sum(dim=-1) * weight).sum() / tiles
    terms = -(q * log_p).sum(dim=-1) * weight
    each = terms.new_zeros(tiles).index_add(0, crop, terms)
    return Terms(each, entropy)
