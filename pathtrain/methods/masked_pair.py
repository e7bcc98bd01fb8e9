"""Student and teacher of DINOv2: a backbone that takes views of all sizes at once, heads, a mask token."""

from typing import Any

import torch
from torch import Tensor, nn

from pathtrain.distributed.fsdp import compile_blocks
from pathtrain.errors import ModelError
from pathtrain.losses.dino import dino_terms
from pathtrain.losses.ibot import ibot_terms
from pathtrain.methods.masked import Picked
from pathtrain.methods.teacher_pair import TeacherPair
from pathtrain.models import backbone, packed
from pathtrain.models.dino_head import DinoHead
from pathtrain.models.mask_token import MaskToken
from pathtrain.models.positions import as_dino
from pathtrain.recipes.dinov2 import Dinov2Recipe


class MaskedPair(TeacherPair):
    """The networks, and what they make of views.

    Args:
        recipe: its ``model``, ``views``, ``dino`` and ``ibot`` parts.
        device: where everything lives.
        fresh: whether to fetch the recipe's initial weights; False where a checkpoint follows.

    Attributes:
        patch_head: the name of the head that patches go through.
        patch_center: (K',) of patches, where centring is by the mean.
        patch_terms: iBOT's loss.

    Raises:
        ModelError: the backbone cannot be made or initialised, or has no class token.
    """

    def __init__(self, recipe: Dinov2Recipe, device: torch.device, fresh: bool) -> None:
        self.config = recipe.dino
        self.globals = recipe.views.globals.count
        learnt: dict[str, Tensor] = {}
        drop = self.config.drop_path
        body = backbone.create(recipe.model, drop, learnt) if fresh else backbone.build(recipe.model, drop)
        crops = {"views.globals.size": recipe.views.globals, "views.locals.size": recipe.views.locals}
        as_dino(body, [crop.size for crop in crops.values() if crop.count], recipe.model.positions)
        if getattr(body, "global_pool", "") != "token":
            raise ModelError(
                f"model.kwargs: {recipe.model.name} pools its patches with them ({body.global_pool}); dinov2 "
                "trains a class token: set model.kwargs.global_pool=token"
            )
        if self.config.drop_path_depth == "even":
            packed.drop_alike(body, drop)
        packed.as_packed(body, self.config.drop_path_by)
        backbone.check(body, recipe.model, {key: crop.size for key, crop in crops.items() if crop.count})
        dim = int(body.num_features)  # type: ignore[arg-type]  # timm's
        parts = {"backbone": body, "head": DinoHead(dim, self.config.head)}
        if recipe.ibot.head is not None:
            parts["patch_head"] = DinoHead(dim, recipe.ibot.head)
        parts["mask_token"] = MaskToken(dim, learnt.get("mask_token"))
        self.patch_head = "head" if recipe.ibot.head is None else "patch_head"
        super().__init__(nn.ModuleDict(parts), self.config.head.out_dim, device)
        outputs = (recipe.ibot.head or self.config.head).out_dim
        self.patch_center = torch.zeros(outputs, device=device)
        self.patch_terms = ibot_terms
        if recipe.model.checkpoint:
            backbone.checkpoint_activations(body, recipe.model)
        if recipe.model.freeze_patch_embed:
            backbone.freeze_patches(body, recipe.model)
        if recipe.precision == "bfloat16" and recipe.sharding == "none":
            self.reduce()

    def networks(self) -> list[nn.Module]:
        """Each part of student and teacher, which are called by themselves."""
        return [part for network in self.running for part in network.values()]

    def compile(self, backend: Any = "inductor", blocks: bool = False) -> None:
        """torch.compile of the running networks and the losses, from now on.

        Shapes are always the same but for the number of masked patches.

        Args:
            blocks: each block of the student by itself, so that its gradients come one after another.
        """
        learner, guide = self.running
        guide["backbone"].compile(dynamic=False, backend=backend)
        if blocks:
            compile_blocks([learner["backbone"]], backend)
        else:
            learner["backbone"].compile(dynamic=False, backend=backend)
        for network in self.running:
            for name in ("head", "patch_head"):
                if name in network:
                    network[name].compile(backend=backend)
        self._terms = torch.compile(dino_terms, dynamic=False, backend=backend)
        self.patch_terms = torch.compile(ibot_terms, backend=backend)

    def encoder(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher["backbone"]

    def call(self, module: nn.Module, *given: Any) -> Any:
        """A running network: a reduced one looks at no autocast."""
        kind = self.center.device.type
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not self._reduced):
            return module(*given)

    def last_layer(self, name: str, vectors: Tensor) -> Tensor:
        """The teacher's scores of vectors, by one of its heads."""
        scores: Tensor = self.call(self.running[1][name], vectors, "last")
        return scores

    @torch.no_grad()
    def teach(self, views: list[Tensor], picked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of class tokens and of masked patches, and the class tokens, of the global views."""
        guide = self.running[1]
        (seen,) = self.call(guide["backbone"], [_together(views[: self.globals], guide)])
        tokens, patches = seen[:, 0], self._patches(guide, seen)[picked]
        vectors = self.call(guide["head"], tokens, "vectors")
        return vectors, self.call(guide[self.patch_head], patches, "vectors"), tokens

    def see(self, views: list[Tensor], picked: Picked) -> tuple[Tensor, Tensor]:
        """Class tokens (V B, D) of all views, and the masked patches (M, D) of the global ones."""
        learner = self.running[0]
        groups = [part for part in (views[: self.globals], views[self.globals :]) if part]
        images = [_together(group, learner) for group in groups]
        seen = self.call(learner["backbone"], images, picked.masks, learner["mask_token"]())
        tokens = torch.cat([group[:, 0] for group in seen])
        return tokens, self._patches(learner, seen[0])[picked.patches]

    @staticmethod
    def _patches(network: nn.ModuleDict, tokens: Tensor) -> Tensor:
        """(G B N, D) of tokens (G B, prefix + N, D)."""
        return tokens[:, network["backbone"].num_prefix_tokens :].flatten(0, 1)


def _together(views: list[Tensor], network: nn.ModuleDict) -> Tensor:
    """Views of one size as one batch, view by view, in the network's precision."""
    return torch.cat(views).to(next(network["backbone"].parameters()).dtype)
