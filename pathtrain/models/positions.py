"""Position embeddings for grids of other sizes, resampled as those who trained the weights did.

A view of 96 px has 6 x 6 patches, and a ViT of 224 px has embeddings of 14 x 14. There are four published
ways (a recipe's ``model.positions``), all bicubic, with edges repeated:

    once        the grid of first weights is resampled to the model's own when they are loaded, to its size
                and with antialiasing, as timm does; while computing, from the own grid as ``hub`` does
    hub         DINO and DINOv2 without registers: by a factor of (6 + 0.1) / 14, the 0.1 against rounding;
                samples are placed by that factor too; no antialiasing
    registers   DINOv2 with registers, and timm: to the size, with antialiasing
    transformers   ViTModel and Dinov2Model of transformers: to the size, without

(github.com/facebookresearch/dino, vision_transformer.py, and facebookresearch/dinov2, hub/backbones.py and
models/vision_transformer.py, interpolate_pos_encoding; huggingface/transformers, models/dinov2.) With all but
``once`` a model keeps the grid of its weights, 37 x 37 of DINOv2's, whatever size it is trained at. ``hub``
and ``registers`` differ by a relative L2 of .82 of random embeddings and .05 to .3 of smooth ones. Weights
know the way they were trained.

Of the model's own size nothing is resampled, and so nothing differs: there features are those of plain timm.

Resampling is linear, so it is done by two matrices, which are known beforehand: the gradient of torch's
interpolation is added up by atomic operations on a card, in another order each time.
"""

from collections.abc import Iterable
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from pathtrain.errors import ModelError
from pathtrain.models.patches import stride

OFFSET = 0.1  # cells
KEEP_GRID = ("hub", "registers", "transformers")  # schemes whose models keep the grid of their weights


class AsDino(VisionTransformer):  # type: ignore[misc]  # timm is untyped
    """timm's transformer with DINO's or DINOv2's resampling.

    Attributes:
        antialias: whether it is that of DINOv2 with registers.
        offset: cells that the new size is taken to be larger by.
    """

    antialias: bool = False
    offset: float = OFFSET
    FULL: tuple[str, ...] = ()  # the matrices' names; pathtrain.models.reduced leaves them as they are

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patches (B, H, W, D) -> tokens (B, N, D) with their positions."""
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        old, new = self.patch_embed.grid_size, (x.shape[1], x.shape[2])
        positions = self.pos_embed[:, prefix:]
        if old != new:
            positions = resampled(positions, *map(self._along, old, new))
        tokens = [
            token.expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token) if token is not None
        ]
        patches = x.flatten(1, 2)
        if self.no_embed_class:
            found = torch.cat([*tokens, patches + positions], dim=1)
        else:
            found = torch.cat([*tokens, patches], dim=1) + torch.cat(
                [self.pos_embed[:, :prefix], positions], dim=1
            )
        dropped: Tensor = self.pos_drop(found)
        return dropped

    def _along(self, old: int, new: int) -> Tensor:
        known: Tensor | None = self._buffers.get(_name(old, new))
        return along(old, new, self.antialias, self.offset).to(self.pos_embed) if known is None else known


def _name(old: int, new: int) -> str:
    return f"resampling_{old}_to_{new}"


def along(old: int, new: int, antialias: bool = False, offset: float = OFFSET) -> Tensor:
    """(new, old) float64: what each of ``new`` cells in a row takes from ``old`` ones.

    Args:
        antialias: as DINOv2 with registers; else as DINO.
        offset: of DINO's way; 0 is that of transformers.
    """
    if antialias:
        # a column an old cell: of images one pixel wide torch samples all rows at the same place
        columns = torch.eye(old, dtype=torch.float64)[None, None]
        return functional.interpolate(columns, size=(new, old), mode="bicubic", antialias=True)[0, 0]
    each = torch.eye(old, dtype=torch.float64)[None, :, :, None]  # of every old cell alone
    factors = ((new + offset) / old, 1.0)
    return functional.interpolate(each, scale_factor=factors, mode="bicubic")[0, :, :, 0].T.contiguous()


def resampled(positions: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Embeddings (1, R * C, D) of one grid for another, (1, R' * C', D); ``along`` gives the matrices.

    Args:
        rows: (R', R). In its type the products are made, also under autocast.
        columns: (C', C).
    """
    with torch.autocast(positions.device.type, enabled=False):
        grid = positions.to(rows).view(rows.shape[1], -1)
        down = (rows @ grid).view(len(rows), columns.shape[1], -1)
        return (columns @ down).flatten(0, 1)[None].to(positions)


def as_dino(backbone: nn.Module, sides: Iterable[int] = (), scheme: str = "once") -> None:
    """Have a backbone resample as DINO or DINOv2 does, from now on.

    Of timm's other architectures (deit, beit, eva, ...) they have none: they keep timm's way.

    Args:
        sides: of square images that will come, pixels, whose matrices are made once.
        scheme: a recipe's ``model.positions``.

    Raises:
        ModelError: it is ``auto``, which first weights settle (pathtrain.runs.beginning).
    """
    if scheme == "auto":
        raise ModelError("model.positions: auto is not settled; give once, hub or registers")
    if type(backbone) is not VisionTransformer or backbone.pos_embed is None:
        return
    backbone.__class__ = AsDino
    assert isinstance(backbone, AsDino)
    backbone.antialias = scheme == "registers"
    backbone.offset = 0.0 if scheme == "transformers" else OFFSET
    embedding, patches, names = backbone.pos_embed, backbone.patch_embed, []
    assert isinstance(embedding, Tensor)
    for side in sides:
        new = side // (stride(backbone) or 1)
        for old in dict.fromkeys(patches.grid_size):
            if old != new:
                matrix = along(old, new, backbone.antialias, backbone.offset).to(embedding)
                backbone.register_buffer(_name(old, new), matrix, persistent=False)
                names.append(_name(old, new))
    backbone.FULL = tuple(dict.fromkeys(names))


def own_side(backbone: nn.Module, scheme: str, trained: int) -> int:
    """The side of images that a model is for, pixels.

    Args:
        trained: that of the large views.
    """
    embed: Any = backbone.patch_embed
    return trained if scheme in KEEP_GRID else int(embed.img_size[0])
