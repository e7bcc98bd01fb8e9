"""DINO: a student matches, from small and large views, what its own moving average says of the large ones.

Caron et al. 2021; github.com/facebookresearch/dino, main_dino.py.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pathprep.stain import Target
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.data.order import Ints
from pathtrain.distributed.ranks import Ranks
from pathtrain.losses import spread
from pathtrain.methods import schedules
from pathtrain.methods.base import Outcome, Setup, slices
from pathtrain.methods.teacher_pair import TeacherPair
from pathtrain.models import backbone
from pathtrain.models.dino_head import DinoHead
from pathtrain.models.positions import as_dino
from pathtrain.recipes.dino import DinoConfig, DinoRecipe, WithDino


class Network(nn.ModuleDict):
    """``backbone`` and ``head``; groups of views, each group of one size, -> scores and features."""

    def forward(self, groups: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """The views of a group go through the backbone together, and all through the head.

        Returns:
            (V, B, K), and without graph (V B, D).
        """
        kind = next(self["backbone"].parameters()).dtype
        features = torch.cat([self["backbone"](torch.cat(group).to(kind)) for group in groups])
        scores: Tensor = self["head"](features)
        return scores.view(sum(map(len, groups)), -1, scores.shape[1]), features.detach()


class Dino(TeacherPair):
    """DINO on tiles.

    Args:
        recipe: its ``model``, ``views`` and ``dino`` parts.
        total: steps of the run, which the schedules span.
        device: where everything lives.
        fresh: whether to fetch the recipe's initial weights; False where a checkpoint follows.

    Raises:
        ModelError: the backbone cannot be made or initialised.
    """

    uniform = True

    def __init__(self, recipe: WithDino, total: int, device: torch.device, fresh: bool = True) -> None:
        self.config, self.total = recipe.dino, total
        self.globals = recipe.views.globals.count
        make = backbone.create if fresh else backbone.build
        body = make(recipe.model, self.config.drop_path)
        crops = {"views.globals.size": recipe.views.globals, "views.locals.size": recipe.views.locals}
        as_dino(body, [crop.size for crop in crops.values() if crop.count], recipe.model.positions)
        backbone.check(body, recipe.model, {key: crop.size for key, crop in crops.items() if crop.count})
        head = DinoHead(int(body.num_features), self.config.head)  # type: ignore[arg-type]  # timm's
        super().__init__(Network({"backbone": body, "head": head}), self.config.head.out_dim, device)
        if recipe.model.checkpoint:
            backbone.checkpoint_activations(body, recipe.model)
        if recipe.model.freeze_patch_embed:
            backbone.freeze_patches(body, recipe.model)
        if recipe.precision == "bfloat16" and recipe.sharding == "none":
            self.reduce()

    def schedule(self, step: int) -> dict[str, float]:
        """This method's own scheduled values at a step, for the log."""
        return {
            "teacher_temp": teacher_temp(self.config, step),
            "momentum": momentum(self.config, step, self.total),
        }

    def networks(self) -> list[nn.Module]:
        """What computes as student and teacher."""
        return list(self.running)

    def split(self, views: list[Tensor], size: int) -> list[list[Tensor]]:
        """Views (B, 3, H, W) in parts of ``size`` tiles."""
        return slices(views, size)

    def prepare(self, parts: list[list[Tensor]], step: int, ranks: Ranks) -> list[list[Tensor]]:
        """Nothing couples a batch's samples."""
        return parts

    def loss(self, views: list[Tensor], step: int) -> Outcome:
        """Loss of a batch; see ``TeacherPair.compare``.

        Args:
            views: (B, 3, H, W) each, globals first.
        """
        large, small = views[: self.globals], views[self.globals :]
        return self.compare(large, small, self.config.student_temp, teacher_temp(self.config, step))

    def figures(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How widely outputs and features are spread."""
        return spread.figures(means)

    def frozen(self, step: int) -> list[nn.Parameter]:
        """Parameters that take no optimiser step at ``step``."""
        head = self.student["head"]
        assert isinstance(head, DinoHead)
        return head.last_layer() if step < self.config.freeze_last_layer_steps else []

    def update(self, means: Mapping[str, Tensor], step: int, taken: Tensor | None = None) -> None:
        """Move the centre and the teacher after the optimiser's step."""
        self.move_center(means["center"], self.config.center_momentum, taken)
        self.follow(momentum(self.config, step, self.total))

    def encoder(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher["backbone"]

    def state(self) -> dict[str, Any]:
        """For a checkpoint: ``student``, ``teacher`` (``backbone`` and ``head`` each) and ``loss``."""
        return {
            "student": {part: module.state_dict() for part, module in self.student.items()},
            "teacher": {part: module.state_dict() for part, module in self.teacher.items()},
            "loss": {"center": self.center},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` gave; every name and shape must fit."""
        for name, network in (("student", self.student), ("teacher", self.teacher)):
            for part, module in network.items():
                module.load_state_dict(state[name][part])
        self.center.copy_(state["loss"]["center"])


def teacher_temp(config: DinoConfig, step: int) -> float:
    """The teacher's temperature in its objective's step number ``step``."""
    temp = config.teacher_temp
    return schedules.linear(step, temp.steps, temp.start, temp.end)


def momentum(config: DinoConfig, move: int, total: int) -> float:
    """The teacher's momentum in its move number ``move`` of ``total``."""
    return schedules.cosine(move, max(1, total), config.momentum.start, config.momentum.end)


class DinoSetup(Setup):
    """DINO on the tiles of a dataset or of mixed shards; it learns without labels."""

    recipe: DinoRecipe

    def method(self, total: int, device: torch.device, fresh: bool) -> Dino:
        """New networks."""
        return Dino(self.recipe, total, device, fresh)

    def source(self, start: int, ranks: Ranks, target: Target | None, held_out: Ints) -> Loader:
        """Batches of views."""
        options = BatchOptions.of(self.recipe)
        return Loader(self.data, options, start, ranks, target=target, held_out=held_out)
