"""DINO: a student matches, from small and large views, what its own moving average says of the large ones.

Caron et al. 2021; github.com/facebookresearch/dino, main_dino.py. The method owns the student, the
teacher and the centre; the trainer owns the optimiser, so ``loss`` changes nothing and ``update`` is
what follows an optimiser step.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.distributed.fsdp import local
from pathtrain.losses.dino import dino_terms, updated_center
from pathtrain.methods import schedules
from pathtrain.methods.base import Outcome, slices
from pathtrain.models import backbone
from pathtrain.models.dino_head import DinoHead
from pathtrain.recipes.recipe import Recipe


class Network(nn.ModuleDict):
    """``backbone`` and ``head``; groups of views, each group of one size, -> scores (V * B, K)."""

    def forward(self, groups: list[list[Tensor]]) -> Tensor:
        """The views of a group go through the backbone together, and all through the head."""
        features = [self["backbone"](torch.cat(group)) for group in groups]
        scores: Tensor = self["head"](torch.cat(features))
        return scores


class Dino:
    """Student, teacher and centre.

    Args:
        recipe: its ``model``, ``views`` and ``dino`` parts.
        total: steps of the run, which the schedules span.
        device: where everything lives.
        fresh: whether to fetch the recipe's initial weights; False where a checkpoint follows.

    Raises:
        ModelError: the backbone cannot be made or initialised.
    """

    def __init__(self, recipe: Recipe, total: int, device: torch.device, fresh: bool = True) -> None:
        self.config, self.total = recipe.dino, total
        self.globals = recipe.views.globals.count
        make = backbone.create if fresh else backbone.build
        body = make(recipe.model, self.config.drop_path)
        crops = {"views.globals.size": recipe.views.globals, "views.locals.size": recipe.views.locals}
        backbone.check(body, recipe.model, {key: crop.size for key, crop in crops.items() if crop.count})
        head = DinoHead(int(body.num_features), self.config.head)  # type: ignore[arg-type]  # timm's
        self.student = Network({"backbone": body, "head": head}).to(device).train()
        # eval switches stochastic depth off, as the original's teacher has none
        self.teacher = deepcopy(self.student).eval().requires_grad_(False)
        if recipe.model.checkpoint:
            backbone.checkpoint_activations(body, recipe.model)
        self.center = torch.zeros(self.config.head.out_dim, device=device)
        # changing numbers as tensors: of each number that it is given, torch.compile would make a version
        self._terms = torch.compile(dino_terms, dynamic=False) if recipe.compile else dino_terms
        self._compiled = recipe.compile

    def schedule(self, step: int) -> dict[str, float]:
        """This method's own scheduled values at a step, for the log."""
        temp, momentum = self.config.teacher_temp, self.config.momentum
        return {
            "teacher_temp": schedules.linear(step, temp.steps, temp.start, temp.end),
            "momentum": schedules.cosine(step, self.total, momentum.start, momentum.end),
        }

    def networks(self) -> list[nn.Module]:
        """Student and teacher."""
        return [self.student, self.teacher]

    def split(self, views: list[Tensor], size: int) -> list[list[Tensor]]:
        """Views (B, 3, H, W) in parts of ``size`` tiles."""
        return slices(views, size)

    def loss(self, views: list[Tensor], step: int) -> Outcome:
        """Loss of a batch; changes nothing but the state of torch's random generator (stochastic depth).

        Args:
            views: (B, 3, H, W) each, globals first.

        Returns:
            With the means ``center`` (K,), the teacher's output, and ``teacher_entropy``, nats.
        """
        large, small = views[: self.globals], views[self.globals :]
        with torch.no_grad():
            teacher = self.teacher([large]).unflatten(0, (len(large), -1))
        student = self.student([large, small] if small else [large]).unflatten(0, (len(views), -1))
        temp = self.schedule(step)["teacher_temp"]
        warmth = torch.tensor(temp, device=self.center.device) if self._compiled else temp
        each, entropy = self._terms(student, teacher, self.center, self.config.student_temp, warmth)
        means = {"center": teacher.float().mean(dim=(0, 1)), "teacher_entropy": entropy}
        return Outcome(each.mean(), each.detach(), means)

    def frozen(self, step: int) -> list[nn.Parameter]:
        """Parameters that take no optimiser step at ``step``."""
        head = self.student["head"]
        assert isinstance(head, DinoHead)
        return head.last_layer() if step < self.config.freeze_last_layer_steps else []

    @torch.no_grad()
    def update(self, means: Mapping[str, Tensor], step: int) -> None:
        """Move the centre and the teacher after the optimiser's step."""
        self.center = updated_center(self.center, means["center"], self.config.center_momentum)
        rate = 1 - self.schedule(step)["momentum"]
        torch._foreach_lerp_(local(self.teacher.parameters()), local(self.student.parameters()), rate)

    def encoder(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher["backbone"]

    def state(self) -> dict[str, Any]:
        """For a checkpoint: ``student``, ``teacher`` (``backbone`` and ``head`` each) and ``loss``."""
        return {
            **{
                name: {part: module.state_dict() for part, module in network.items()}
                for name, network in (("student", self.student), ("teacher", self.teacher))
            },
            "loss": {"center": self.center},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` gave; every name and shape must fit."""
        for name, network in (("student", self.student), ("teacher", self.teacher)):
            for part, module in network.items():
                module.load_state_dict(state[name][part])
        self.center.copy_(state["loss"]["center"])
