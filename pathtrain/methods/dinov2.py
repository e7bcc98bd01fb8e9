"""DINOv2: DINO on class tokens, iBOT on masked patches, and a regulariser that spreads class tokens.

    L = w_d DINO(class tokens of all views) + w_i iBOT(masked patches of the global views)
        + w_r sum over global views of R(class tokens of the student)

The student sees its global views masked, the teacher whole. Oquab et al. 2023, "DINOv2: learning robust
visual features without supervision"; Zhou et al. 2021, iBOT; github.com/facebookresearch/dinov2,
dinov2/train/ssl_meta_arch.py. Midnight and Virchow2 take a kernel density estimate for R.

Sinkhorn and R couple the samples of a batch. So that parts and ranks give what one pass over the batch would,
``prepare`` looks at the teacher's vectors of the whole batch first: Sinkhorn comes down to one number an
output, which takes the centre's place (pathtrain.losses.sinkhorn). R is taken over the vectors of all ranks,
group by group. Where a part of all ranks holds whole groups, it has R's gradient by itself; else the student
goes through the step once without a graph, R's gradient with respect to the vectors is kept, and each part
goes back from its share of it (as gradient caching does, Gao et al. 2021).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.distributed.ranks import Ranks
from pathtrain.losses import spread
from pathtrain.losses.dino import updated_center
from pathtrain.losses.precision import wide
from pathtrain.losses.sinkhorn import sinkhorn_shift
from pathtrain.methods.base import Outcome
from pathtrain.methods.coupled import Coupled
from pathtrain.methods.dino import momentum, teacher_temp
from pathtrain.methods.masked import Masked, Picked
from pathtrain.methods.masked_pair import MaskedPair
from pathtrain.models.dino_head import DinoHead
from pathtrain.models.replay import Random
from pathtrain.recipes.dinov2 import Dinov2Recipe


@dataclass(frozen=True)
class Part:
    """What ``loss`` takes.

    Attributes:
        views: (B, 3, H, W) each, globals first.
        picked: the masked patches.
        teacher: (G B, d) vectors of the teacher's head, of the global views.
        patches: (M, d') those of the masked patches.
        features: (G B, D) the teacher's class tokens.
        centers: (K,) of class tokens and (K',) of patches, to be subtracted from the teacher's scores.
        ranks: among which the regulariser is taken, where it is not known before.
        pull: the regulariser's value, and its gradient (G, B, D) with respect to the student's class tokens.
        random: the state in which the student went through before.
    """

    views: list[Tensor]
    picked: Picked
    teacher: Tensor
    patches: Tensor
    features: Tensor
    centers: tuple[Tensor, Tensor]
    ranks: Ranks
    pull: tuple[Tensor, Tensor] | None = None
    random: Random | None = None


class Dinov2(MaskedPair):
    """DINOv2 on tiles.

    Args:
        recipe: its ``model``, ``views``, ``dino``, ``ibot`` and ``regulariser`` parts.
        total: steps of the run, which the schedules span.
        device: where everything lives.
        fresh: whether to fetch the recipe's initial weights; False where a checkpoint follows.

    Raises:
        ModelError: the backbone cannot be made or initialised, or has no class token.
    """

    uniform = True

    def __init__(self, recipe: Dinov2Recipe, total: int, device: torch.device, fresh: bool = True) -> None:
        super().__init__(recipe, device, fresh)
        self.recipe, self.total = recipe, total
        self._coupled = Coupled(recipe.regulariser, recipe.batch)

    def schedule(self, step: int) -> dict[str, float]:
        """This method's own scheduled values at a step, for the log."""
        found = {
            "teacher_temp": teacher_temp(self.config, step),
            "momentum": momentum(self.config, step, self.total),
        }
        if self.recipe.regulariser.kind != "none":
            found["regulariser_weight"] = self.recipe.regulariser.weight_at(step, self.total)
        return found

    def split(self, views: Masked, size: int) -> list[Masked]:
        """A batch in parts of ``size`` tiles."""
        return views.split(size)

    def prepare(self, parts: list[Masked], step: int, ranks: Ranks) -> list[Part]:
        """What the teacher says of the batch, and what that leaves to subtract; the regulariser's pull, where
        no part has whole groups."""
        device = self.center.device
        picked = [part.picked(device) for part in parts]
        seen = [self.teach(part.views, own.patches) for part, own in zip(parts, picked, strict=True)]
        temp = teacher_temp(self.config, step)
        centers = self.center, self.patch_center
        if self.config.centring == "sinkhorn":
            columns = list(zip(*seen, strict=True))
            centers = (
                self._balanced("head", columns[0], temp, ranks),
                self._balanced(self.patch_head, columns[1], temp, ranks),
            )
        made = [
            Part(part.views, own, *found, centers, ranks)
            for part, own, found in zip(parts, picked, seen, strict=True)
        ]
        if not self.recipe.regulariser.weight_at(step, self.total) or self._whole_groups(parts, ranks):
            return made
        return self._pulled(made, ranks)

    def loss(self, part: Part, step: int) -> Outcome:
        """Loss of a part; changes nothing but the state of torch's random generators.

        Returns:
            With the means ``tile_loss``, ``tile_teacher_entropy`` and ``tile_kl`` (of DINO), ``patch_loss``
            and ``patch_teacher_entropy`` (of iBOT), ``regulariser``; those of pathtrain.losses.spread, of
            class tokens; and with mean centring the teacher's scores.
        """
        if part.random is not None:
            part.random.replay(self.center.device)
        device, config = self.center.device, self.config
        tokens, patches = self.see(part.views, part.picked)
        views, batch = len(part.views), len(part.views[0])
        scores = self.call(self.running[0]["head"], tokens).view(views, batch, -1)
        # as a tensor: of each number that it is given, torch.compile would make a version
        temp = torch.full((), teacher_temp(config, step), device=device)
        with torch.no_grad():
            teacher = self.last_layer("head", part.teacher).view(self.globals, batch, -1)
            patch_teacher = self.last_layer(self.patch_head, part.patches)
        terms = self._terms(scores, teacher, part.centers[0], config.student_temp, temp)
        patch_scores = self.call(self.running[0][self.patch_head], patches)
        masked = self.patch_terms(
            patch_scores,
            patch_teacher,
            part.centers[1],
            config.student_temp,
            temp,
            part.picked.tiles,
            part.picked.weights,
            batch,
        )
        each = config.weight * terms.each + self.recipe.ibot.weight * masked.each
        loss, tile_loss = each.mean(), terms.each.detach().mean()
        own = tokens[: self.globals * batch].view(self.globals, batch, -1)
        means = {
            "tile_loss": tile_loss,
            "tile_teacher_entropy": terms.entropy,
            "tile_kl": tile_loss - terms.entropy,
            "patch_loss": masked.each.detach().mean(),
            "patch_teacher_entropy": masked.entropy,
            "tile_outputs": terms.outputs,
            **{f"tile_{name}": value for name, value in spread.moments(part.features).items()},
        }
        weight = self.recipe.regulariser.weight_at(step, self.total)
        if weight:
            value = self._regulariser(own, part)
            loss = loss + weight * value
            means["regulariser"] = value.detach()
        if config.centring == "mean":
            means["center"] = wide(teacher).mean(dim=(0, 1))
            means["patch_sum"] = wide(patch_teacher).sum(dim=0) / batch
            means["patches"] = torch.full((1,), len(patch_teacher) / batch, device=device)
        return Outcome(loss, each.detach(), means)

    def figures(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How widely outputs and features of class tokens are spread."""
        own = {n.removeprefix("tile_"): mean for n, mean in means.items() if n.startswith("tile_")}
        return {f"tile_{name}": value for name, value in spread.figures(own).items()}

    def frozen(self, step: int) -> list[nn.Parameter]:
        """Parameters that take no optimiser step at ``step``."""
        heads = [part for part in self.student.values() if isinstance(part, DinoHead)]
        if step >= self.config.freeze_last_layer_steps:
            return []
        return [parameter for head in heads for parameter in head.last_layer()]

    def update(self, means: Mapping[str, Tensor], step: int, taken: Tensor | None = None) -> None:
        """Move the centres, where they are means, and the teacher after the optimiser's step."""
        if self.config.centring == "mean":
            self.move_center(means["center"], self.config.center_momentum, taken)
            # of a batch without a masked patch nothing is known
            known = means["patches"] > 0
            mean = means["patch_sum"] / means["patches"].clamp(min=1e-12)
            moved = updated_center(self.patch_center, mean, self.config.center_momentum)
            known = known if taken is None else known & taken
            self.patch_center = torch.where(known, moved, self.patch_center)
        self.follow(momentum(self.config, step, self.total))

    def state(self) -> dict[str, Any]:
        """For a checkpoint: ``student``, ``teacher`` (``backbone``, ``head``, ``patch_head``, ``mask_token``)
        and ``loss``, the centres."""
        return {
            "student": {part: module.state_dict() for part, module in self.student.items()},
            "teacher": {part: module.state_dict() for part, module in self.teacher.items()},
            "loss": {"center": self.center, "patch_center": self.patch_center},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` gave; every name and shape must fit."""
        for name, network in (("student", self.student), ("teacher", self.teacher)):
            for part, module in network.items():
                module.load_state_dict(state[name][part])
        self.center.copy_(state["loss"]["center"])
        self.patch_center.copy_(state["loss"]["patch_center"])

    @torch.no_grad()
    def _balanced(self, name: str, vectors: tuple[Tensor, ...], temp: float, ranks: Ranks) -> Tensor:
        """What to subtract from the teacher's scores so that, at this temperature, outputs are used alike."""

        def scores() -> Iterator[Tensor]:
            return (self.last_layer(name, part) for part in vectors)

        # of one part they are kept; of several made again, as each may fill the memory
        given = list(scores()) if len(vectors) == 1 else scores
        return -temp * sinkhorn_shift(given, temp, self.config.iterations, ranks)

    def _whole_groups(self, parts: list[Masked], ranks: Ranks) -> bool:
        """Whether each part of all ranks together has whole groups; or is alone, as of what is counted."""
        group = self._coupled.group
        return len(parts) == 1 or all(len(part.views[0]) * ranks.world % group == 0 for part in parts)

    def _regulariser(self, tokens: Tensor, part: Part) -> Tensor:
        """Of the student's class tokens (G, B, D): the value, with its gradient."""
        if part.pull is None:
            return self._coupled(tokens, part.ranks)
        value, gradient = part.pull
        pulled = (wide(tokens) * gradient).sum()
        return value + pulled - pulled.detach()

    def _pulled(self, parts: list[Part], ranks: Ranks) -> list[Part]:
        """The parts with the regulariser's value and pull, after a pass of the student without a graph."""
        device = self.center.device
        states, found = [], []
        for part in parts:
            states.append(Random.now(device))
            with torch.no_grad():
                tokens, _ = self.see(part.views, part.picked)
            batch = len(part.views[0])
            found.append(wide(tokens[: self.globals * batch]).view(self.globals, batch, -1))
        whole = torch.cat(found, dim=1).requires_grad_()
        with torch.enable_grad():
            value = self._coupled(whole, ranks)
        (gradient,) = torch.autograd.grad(value, whole)
        sizes = [one.shape[1] for one in found]
        # a part's loss is a mean over its own tiles, and counts by their share
        pulls = [
            own * (whole.shape[1] / size)
            for own, size in zip(torch.split(gradient, sizes, dim=1), sizes, strict=True)
        ]
        return [
            replace(part, pull=(value.detach(), pull), random=state)
            for part, pull, state in zip(parts, pulls, states, strict=True)
        ]
