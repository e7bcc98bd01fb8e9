"""A student, its moving average that teaches it, and the centre of what the teacher says: DINO's frame.

Caron et al. 2021; github.com/facebookresearch/dino, main_dino.py. What the views are lies with the network.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from pathtrain.distributed.fsdp import local
from pathtrain.losses import spread
from pathtrain.losses.dino import Terms, dino_terms, updated_center
from pathtrain.losses.precision import wide
from pathtrain.methods.base import Outcome


class TeacherPair:
    """Student, teacher and centre.

    Args:
        network: the student's parts; groups of views, each group of one size, -> scores (V, B, K), and the
            features (V B, D) that they are of.
        outputs: K.
        device: where everything lives.
        terms: of the loss; pathtrain.losses.dino.dino_terms, or that compiled.

    Attributes:
        student: trained.
        teacher: follows it; without dropout and stochastic depth, as the original's teacher has none.
        center: (K,).
    """

    def __init__(
        self,
        network: nn.ModuleDict,
        outputs: int,
        device: torch.device,
        terms: Callable[..., Terms] = dino_terms,
    ) -> None:
        self.student = network.to(device).train()
        self.teacher = deepcopy(self.student).eval().requires_grad_(False)
        self.center = torch.zeros(outputs, device=device)
        self._terms = terms

    def compare(
        self, large: list[Tensor], small: list[Tensor], student_temp: float, teacher_temp: float | Tensor
    ) -> Outcome:
        """Loss of a batch; changes nothing but the state of torch's random generator (stochastic depth).

        Args:
            large: views that the teacher sees too.
            small: views that only the student sees.

        Returns:
            With the means ``center`` (K,), the teacher's scores; ``teacher_entropy`` and ``kl``, the part of
            the loss that the student could still get rid of, nats; and those of pathtrain.losses.spread.
        """
        with torch.no_grad():
            teacher, features = self.teacher([large])
        student, _ = self.student([large, small] if small else [large])
        terms = self._terms(student, teacher, self.center, student_temp, teacher_temp)
        loss = terms.each.mean()
        means = {
            "center": wide(teacher).mean(dim=(0, 1)),
            "teacher_entropy": terms.entropy,
            "kl": loss.detach() - terms.entropy,
            "outputs": terms.outputs,
            **spread.moments(features),
        }
        return Outcome(loss, terms.each.detach(), means)

    def move_center(self, mean: Tensor, momentum: float) -> None:
        """Move the centre towards the mean (K,) of the teacher's outputs in a batch."""
        self.center = updated_center(self.center, mean, momentum)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the teacher towards the student."""
        rate = 1 - momentum
        torch._foreach_lerp_(local(self.teacher.parameters()), local(self.student.parameters()), rate)
