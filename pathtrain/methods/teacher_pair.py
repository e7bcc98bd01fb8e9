"""A student, its moving average that teaches it, and the centre of what the teacher says: DINO's frame.

Caron et al. 2021; github.com/facebookresearch/dino, main_dino.py. What the views are lies with the network.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.distributed.fsdp import compile_blocks, local
from pathtrain.losses import spread
from pathtrain.losses.dino import dino_terms, updated_center
from pathtrain.losses.precision import wide
from pathtrain.methods.base import Outcome
from pathtrain.models import reduced


class TeacherPair:
    """Student, teacher and centre.

    Args:
        network: the student's parts; groups of views, each group of one size, -> scores (V, B, K), and the
            features (V B, D) that they are of.
        outputs: K.
        device: where everything lives.

    Attributes:
        student: trained.
        teacher: follows it; without dropout and stochastic depth, as the original's teacher has none.
        running: what computes in their place: themselves, or after ``reduce`` copies in bfloat16.
        center: (K,).
    """

    def __init__(self, network: nn.ModuleDict, outputs: int, device: torch.device) -> None:
        self.student = network.to(device).train()
        self.teacher = deepcopy(self.student).eval().requires_grad_(False)
        self.running = (self.student, self.teacher)
        self.center = torch.zeros(outputs, device=device)
        self._terms = dino_terms
        self._reduced = False
        self._copies: list[tuple[nn.Parameter, nn.Parameter]] | None = None  # found in the first step

    def reduce(self) -> None:
        """Compute in bfloat16 from now on (pathtrain.models.reduced); the networks are as they will be."""
        self.running = (reduced.reduced(self.student), reduced.reduced(self.teacher))
        self._reduced = True

    def compile(self, backend: Any = "inductor", blocks: bool = False) -> None:
        """torch.compile of the running networks and the loss, from now on: shapes are always the same.

        Args:
            blocks: each block of the student by itself, so that its gradients come one after another.
        """
        learner, guide = self.running
        guide.compile(dynamic=False, backend=backend)
        if blocks:
            compile_blocks([learner], backend)
        else:
            learner.compile(dynamic=False, backend=backend)
        self._terms = torch.compile(dino_terms, dynamic=False, backend=backend)

    def computing(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Trained parameters, and those that compute in their place and get their gradients."""
        return reduced.pairs(self.student, self.running[0])

    def refresh(self) -> None:
        """Before a step: bring what computes up to date."""
        if self._copies is None:
            self._copies = self.computing() + reduced.pairs(self.teacher, self.running[1])
        reduced.refresh(self._copies)

    def compare(
        self, large: list[Tensor], small: list[Tensor], student_temp: float, teacher_temp: float
    ) -> Outcome:
        """Loss of a batch; changes nothing but the state of torch's random generator (stochastic depth).

        Args:
            large: views that the teacher sees too.
            small: views that only the student sees.

        Returns:
            With the means ``center`` (K,), the teacher's scores; ``teacher_entropy`` and ``kl``, the part of
            the loss that the student could still get rid of, nats; and those of pathtrain.losses.spread.
        """
        learner, guide = self.running
        kind = self.center.device.type
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not self._reduced):
            with torch.no_grad():
                teacher, features = guide([large])
            student, _ = learner([large, small] if small else [large])
        # as a tensor: of each number that it is given, torch.compile would make a version
        temp = torch.full((), teacher_temp, device=self.center.device)
        terms = self._terms(student, teacher, self.center, student_temp, temp)
        loss = terms.each.mean()
        means = {
            "center": wide(teacher).mean(dim=(0, 1)),
            "teacher_entropy": terms.entropy,
            "kl": loss.detach() - terms.entropy,
            "outputs": terms.outputs,
            **spread.moments(features),
        }
        return Outcome(loss, terms.each.detach(), means)

    def move_center(self, mean: Tensor, momentum: float, taken: Tensor | None = None) -> None:
        """Move the centre towards the mean (K,) of the teacher's outputs in a batch, where ``taken``."""
        moved = updated_center(self.center, mean, momentum)
        self.center = moved if taken is None else torch.where(taken, moved, self.center)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the teacher towards the student."""
        rate = 1 - momentum
        torch._foreach_lerp_(local(self.teacher.parameters()), local(self.student.parameters()), rate)
