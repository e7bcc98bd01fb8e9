"""A DINO step of lightly's own parts, put together as lightly-train's method ``dino`` does it.

Its projection head, loss and moving average; global norm clipping at 3, and AdamW with torch's defaults.
Lightly-train runs such a step in PyTorch Lightning's trainer, which is left out.
"""

from copy import deepcopy

import timm
import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import update_momentum
from torch import Tensor, nn

from pathtrain.methods.base import Batch
from pathtrain.methods.schedules import cosine
from pathtrain.recipes.dino import DinoRecipe

CLIP = 3.0


class Lightly:
    """The step.

    Args:
        recipe: its ``model``, ``dino`` and ``optim``.
        device: where everything lives.
        total: steps that the schedules span.
    """

    def __init__(self, recipe: DinoRecipe, device: torch.device, total: int) -> None:
        torch.manual_seed(0)
        self.recipe, self.device, self.total, self.done = recipe, device, total, 0
        head, kwargs = recipe.dino.head, {"num_classes": 0, "dynamic_img_size": True}
        body = timm.create_model(
            recipe.model.name, drop_path_rate=recipe.dino.drop_path, **kwargs, **recipe.model.kwargs
        )
        sizes = (body.num_features, head.hidden_dim, head.bottleneck_dim, head.out_dim)
        heads = [DINOProjectionHead(*sizes, norm_last_layer=head.norm_last_layer) for _ in range(2)]
        self.student = nn.Sequential(body, heads[0]).to(device)
        self.teacher = nn.Sequential(deepcopy(body), heads[1]).to(device).requires_grad_(False)
        self.criterion = DINOLoss(head.out_dim, student_temp=recipe.dino.student_temp).to(device)
        parameters = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=recipe.optim.lr)

    def __call__(self, batch: Batch) -> float:
        """A step; returns its loss."""
        dino, optim = self.recipe.dino, self.recipe.optim
        momentum = cosine(self.done, self.total, dino.momentum.start, dino.momentum.end)
        update_momentum(self.student, self.teacher, m=momentum)
        for group in self.optimizer.param_groups:
            group["lr"] = cosine(self.done, self.total, optim.lr, optim.min_lr)
        views: list[Tensor] = batch.views
        large, small = torch.cat(views[:2]), torch.cat(views[2:])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            with torch.no_grad():
                teacher = self.teacher(large)
            student = torch.cat([self.student(large), self.student(small)])
            temp = dino.teacher_temp.end
            loss = self.criterion(teacher.chunk(2), student.chunk(len(views)), teacher_temp=temp)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), CLIP)
        self.optimizer.step()
        self.done += 1
        return float(loss.detach())
