"""lightly-train's DINOv2 step, as its method ``dinov2`` takes it, without PyTorch Lightning's trainer.

Its own module: network, heads, masks, losses, optimiser and schedules; what the trainer would do between them
(backward, clipping of the global norm, the step, the teacher's move) is written out. Logging is left out.

lightly-train is no dependency of the project. It comes beside it, with what it lacks here:

    pip install --target DIR --no-deps lightly-train==0.18.0 lightly-utils albumentations==2.0.8 \\
        albucore==0.0.24 'stringzilla<4' simsimd opencv-python-headless eval-type-backport pycocotools
    PYTHONPATH=DIR python bench/bench_dinov2.py
"""

from types import SimpleNamespace
from typing import Any

import timm
import torch
from torch import nn

from pathtrain.methods.base import Batch
from pathtrain.recipes.dinov2 import Dinov2Recipe


class Lightly:
    """The step.

    Args:
        recipe: sizes, precision and rates; one head for class tokens and patches, and KoLeo.
        device: where everything lives.
        total: steps that the schedules span.

    Raises:
        ImportError: lightly-train or something of it is not there.
    """

    def __init__(self, recipe: Dinov2Recipe, device: torch.device, total: int) -> None:
        from lightly.utils.scheduler import cosine_schedule
        from lightly_train._methods.dinov2.dinov2 import DINOv2, DINOv2AdamWViTArgs, DINOv2Args
        from lightly_train._models.dinov2_vit.dinov2_vit import DINOv2ViTModelWrapper
        from lightly_train._models.embedding_model import EmbeddingModel
        from lightly_train._torch_helpers import update_momentum

        torch.manual_seed(0)
        self.recipe, self.device, self.total = recipe, device, total
        self._cosine, self._follow = cosine_schedule, update_momentum
        head, optim = recipe.dino.head, recipe.optim
        args = DINOv2Args(
            hidden_dim=head.hidden_dim,
            dino_bottleneck_dim=head.bottleneck_dim,
            ibot_bottleneck_dim=head.bottleneck_dim,
            output_dim=head.out_dim,
            student_freeze_last_layer_steps=recipe.dino.freeze_last_layer_steps,
            koleo_loss_weight=recipe.regulariser.weight,
            center_method="softmax" if recipe.dino.centring == "mean" else "sinkhorn_knopp",
            mask_ratio_min=recipe.ibot.ratio[0],
            mask_ratio_max=recipe.ibot.ratio[1],
            mask_probability=recipe.ibot.share,
            warmup_steps=0,
            teacher_temp_warmup_steps=total,
            layerwise_decay=optim.layer_decay,
            weight_decay_start=optim.weight_decay.start,
            weight_decay_end=optim.weight_decay.end,
        )
        rates = DINOv2AdamWViTArgs(lr=optim.lr, weight_decay=optim.weight_decay.start)
        wrapped = DINOv2ViTModelWrapper(network(recipe))
        method = DINOv2(args, rates, EmbeddingModel(wrapped), recipe.batch, 3)
        method.trainer = SimpleNamespace(global_step=0, max_epochs=1, estimated_stepping_batches=total)
        self.method = method.to(device).train()
        for frozen in (method.teacher_embedding_model, method.teacher_head):
            frozen.eval()
        (self.optimizer,), (scheduled,) = method.configure_optimizers()
        self.scheduler = scheduled["scheduler"]

    def __call__(self, batch: Batch) -> float:
        """A step; returns its loss."""
        method, args = self.method, self.method.method_args
        mixed = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            loss = method.training_step_impl({"views": batch.views.views}, 0).loss
        self.optimizer.zero_grad()
        loss.backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, args.gradient_clip_val)
        method.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()
        self.scheduler.step()
        moment = self._cosine(method.trainer.global_step, self.total, args.momentum_start, args.momentum_end)
        self._follow(method.student_embedding_model, method.teacher_embedding_model, m=moment)
        self._follow(method.student_head, method.teacher_head, m=moment)
        method.trainer.global_step += 1
        value = float(loss.detach())
        if not value < float("inf"):
            raise RuntimeError("the peer's loss is not finite")
        return value


def network(recipe: Dinov2Recipe) -> Any:
    """Their transformer in the shape of ours."""
    from functools import partial

    from lightly_train._models.dinov2_vit.dinov2_vit_src.layers import MemEffAttention
    from lightly_train._models.dinov2_vit.dinov2_vit_src.layers.block import Block
    from lightly_train._models.dinov2_vit.dinov2_vit_src.models.vision_transformer import (
        DinoVisionTransformer,
    )

    ours = timm.create_model(recipe.model.name, num_classes=0, **recipe.model.kwargs)
    block = ours.blocks[0]
    side = ours.patch_embed.img_size[0]
    found = DinoVisionTransformer(
        img_size=side,
        patch_size=ours.patch_embed.patch_size[0],
        embed_dim=ours.embed_dim,
        depth=len(ours.blocks),
        num_heads=block.attn.num_heads,
        init_values=getattr(block.ls1, "init_values", None),
        block_chunks=0,
        block_fn=partial(Block, attn_class=MemEffAttention),
        ffn_layer="mlp" if isinstance(block.mlp, timm.layers.Mlp) else "swiglufused",
        drop_path_rate=recipe.dino.drop_path,
        drop_path_uniform=recipe.dino.drop_path_depth == "even",
    )
    counts = [sum(p.numel() for name, p in each.named_parameters()) for each in (ours, found)]
    counts[1] -= found.mask_token.numel()
    if counts[0] != counts[1]:
        raise RuntimeError(f"the networks differ: {counts[0]:,} and {counts[1]:,} parameters")
    return found
