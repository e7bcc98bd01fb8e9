"""A DINO step as main_dino.py has it, in plain eager PyTorch: what ours is measured against."""

import math
from copy import deepcopy
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from pathtrain.methods.base import Batch
from pathtrain.recipes.recipe import Recipe


class Peer:
    """Student, teacher, centre and optimiser.

    Args:
        recipe: sizes, precision and rates; views, head and schedule of ``dino``.
        total: steps that the schedules span.
    """

    def __init__(self, recipe: Recipe, device: torch.device, total: int) -> None:
        torch.manual_seed(0)
        self.recipe, self.device, self.done, self.total = recipe, device, 0, total
        self.student = self._network(recipe, recipe.dino.drop_path).to(device)
        self.teacher = deepcopy(self.student).requires_grad_(False)
        for module in self.teacher.modules():
            if hasattr(module, "drop_prob"):
                module.drop_prob = 0.0
        self.center = torch.zeros(1, recipe.dino.head.out_dim, device=device)
        decayed = [p for n, p in self.student.named_parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for n, p in self.student.named_parameters() if p.requires_grad and p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.optim.lr)

    @staticmethod
    def _network(recipe: Recipe, drop_path: float) -> nn.ModuleList:
        kwargs = {"num_classes": 0, "dynamic_img_size": True, "drop_path_rate": drop_path}
        backbone = timm.create_model(recipe.model.name, **kwargs, **recipe.model.kwargs)
        head = recipe.dino.head
        width, hidden = backbone.num_features, head.hidden_dim
        mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, head.bottleneck_dim),
        )
        last = weight_norm(nn.Linear(head.bottleneck_dim, head.out_dim, bias=False))
        last.parametrizations.weight.original0.data.fill_(1).requires_grad_(False)  # type: ignore[union-attr,operator]
        return nn.ModuleList([backbone, mlp, last])

    @staticmethod
    def _forward(network: nn.ModuleList, views: list[Tensor]) -> Tensor:
        backbone, mlp, last = network
        counts = torch.unique_consecutive(torch.tensor([v.shape[-1] for v in views]), return_counts=True)[1]
        features, start = [], 0
        for count in counts.tolist():
            features.append(backbone(torch.cat(views[start : start + count])))
            start += count
        x: Tensor = last(functional.normalize(mlp(torch.cat(features)), dim=-1, p=2))
        return x

    def __call__(self, batch: Batch) -> float:
        dino, optim = self.recipe.dino, self.recipe.optim
        progress = 0.5 * (1 + math.cos(math.pi * self.done / self.total))
        for number, group in enumerate(self.optimizer.param_groups):
            group["lr"] = optim.lr * progress
            if number == 0:
                group["weight_decay"] = optim.weight_decay.end
        views, count = batch.views, len(batch.views)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            with torch.no_grad():
                teacher = self._forward(self.teacher, views[:2])
            student = self._forward(self.student, views)
            scores = (student.float() / dino.student_temp).chunk(count)
            targets = functional.softmax((teacher.float() - self.center) / dino.teacher_temp.end, dim=-1)
            loss, terms = torch.zeros((), device=self.device), 0
            for g, target in enumerate(targets.detach().chunk(2)):
                for v in range(count):
                    if v != g:
                        pair = torch.sum(-target * functional.log_softmax(scores[v], dim=-1), dim=-1)
                        loss, terms = loss + pair.mean(), terms + 1
            loss = loss / terms
        with torch.no_grad():
            mean = teacher.float().mean(dim=0, keepdim=True)
            self.center = self.center * dino.center_momentum + mean * (1 - dino.center_momentum)
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError("the peer's loss is not finite")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self.student.parameters():
            if parameter.grad is not None and optim.clip is not None:
                scale = optim.clip / (parameter.grad.norm(2) + 1e-6)
                if scale < 1:
                    parameter.grad.mul_(scale)
        self.optimizer.step()
        with torch.no_grad():
            for new, old in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
                old.mul_(dino.momentum.start).add_((1 - dino.momentum.start) * new.detach())
        self.done += 1
        return value
